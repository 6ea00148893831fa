"""How close the engine's training is to the best that this machine can: one thread against one.

Multiply-accumulates are counted while the engine trains, by PyTorch's own counter, whatever
layers it is made of; the time is that of the same training once more, uncounted, its activations
cached. The best is the fastest of some large convolutions and matrix products.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.draws import draw_images
from benchmarks.speed.processes import run_watched
from benchmarks.speed.records import measure_once
from benchmarks.speed.torch_recipe import BACKBONE
from threadpoolctl import threadpool_limits
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from meninx.finetune import FineTunedClassifier

# What the matrix advises at 53 images in every draw of docs/advice.md; and the last stage.
CUTS = ("stage4", "stage7")
TRIES = 5
EPOCHS = 12


def measure_limit(manifest: Path, out: Path, is_trial: bool) -> None:
    """Measure engine and machine, unless the record is there."""
    key = {"kind": "limit", "is_trial": is_trial}
    record = measure_once(out, key, lambda: compare_apart(manifest, 1 if is_trial else EPOCHS))
    if record:
        print(json.dumps({name: record[name] for name in ("best", "engine")}, indent=1))


def compare_apart(manifest: Path, epochs: int) -> dict[str, Any]:
    """Compare engine and machine in a fresh process, from a cold cache."""
    with tempfile.TemporaryDirectory(prefix="meninx-limit-") as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks.speed.limit", str(manifest), str(answer)]
        run_watched([*command, str(epochs)], {"MENINX_CACHE": folder})
        measured: dict[str, Any] = json.loads(answer.read_text())
    return measured


def compare(manifest: Path, epochs: int) -> dict[str, Any]:
    """Measure the machine's best and the engine's training, on one thread."""
    draw = draw_images(manifest, 0)
    rows, _ = next(draw.splits())
    files = draw.train.take(rows)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return {
            "best": {
                "float32": measure_best(torch.float32),
                "bfloat16": measure_best(torch.bfloat16),
            },
            "engine": {
                cut: measure_training(cut, files.paths, files.targets.tolist(), epochs)
                for cut in CUTS
            },
        }


def measure_best(dtype: torch.dtype) -> dict[str, float]:
    """Give multiply-accumulates a second of large operators, each at its fastest of some tries."""
    best = {}
    with torch.inference_mode():
        inputs = (
            torch.randn(16, 256, 28, 28).to(dtype).contiguous(memory_format=torch.channels_last)
        )
        for side in (1, 3):
            kernel = torch.randn(256, 256, side, side).to(dtype)
            kernel = kernel.contiguous(memory_format=torch.channels_last)
            work = 16 * 28 * 28 * 256 * 256 * side**2
            convolve = partial(functional.conv2d, inputs, kernel, padding=side // 2)
            best[f"convolution {side}×{side}"] = work / _time_fastest(convolve)
        square = torch.randn(2048, 2048).to(dtype)
        best["matrix product"] = 2048**3 / _time_fastest(lambda: square @ square)
    return best


def _time_fastest(work: Callable[[], object]) -> float:
    """Give the seconds of the fastest of some tries, after one that does not count."""
    seconds = []
    for _ in range(TRIES + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def measure_training(
    cut: str, paths: Sequence[Path], targets: Sequence[int], epochs: int
) -> dict[str, float]:
    """Count the multiply-accumulates of the engine's training at a cut, and time it."""
    classifier = FineTunedClassifier(BACKBONE, "partial", cut, epochs=epochs)
    classifier.fit(paths, targets)  # fills the cache, and warms up
    started = time.perf_counter()
    classifier.fit(paths, targets)
    seconds = time.perf_counter() - started
    macs = count_macs(lambda: classifier.fit(paths, targets))
    return {"macs": macs, "seconds": seconds, "macs_per_second": macs / seconds}


def count_macs(work: Callable[[], object]) -> int:
    """Count the multiply-accumulates of convolutions and matrix products, backwards ones too."""
    counts = {
        torch.ops.aten.convolution_backward: _count_backward,
        torch.ops.mkldnn._convolution_pointwise: _count_activated_convolution,
        torch.ops.mkldnn._linear_pointwise: _count_activated_product,
    }
    counter = FlopCounterMode(display=False, custom_mapping=counts)
    with counter:
        work()
    return counter.get_total_flops() // 2


def _count_backward(
    gradient: torch.Size,
    inputs: torch.Size,
    kernel: torch.Size,
    *arguments: object,
    out_shape: object = None,
) -> int:
    """Count as many for each wanted gradient as forwards.

    PyTorch's own count (2.14) takes the gradient of a depthwise kernel for a dense one.
    """
    wanted = arguments[-1]
    forward = conv_flop_count(list(inputs), list(kernel), list(gradient))
    return forward * sum(map(bool, wanted[:2]))  # type: ignore[index]


def _count_activated_convolution(
    inputs: torch.Size, kernel: torch.Size, *_: object, out_shape: torch.Size
) -> int:
    return conv_flop_count(list(inputs), list(kernel), list(out_shape))


def _count_activated_product(
    inputs: torch.Size, matrix: torch.Size, *_: object, out_shape: torch.Size
) -> int:
    return 2 * inputs.numel() * matrix[0]


if __name__ == "__main__":
    own_measures = compare(Path(sys.argv[1]), int(sys.argv[3]))
    Path(sys.argv[2]).write_text(json.dumps(own_measures))

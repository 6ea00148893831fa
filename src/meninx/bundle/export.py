"""Export: the bundle's networks as one ONNX file, for programs without Python or torch.

The graph holds all of `predict` but the reading of the file: the views, the normalisation,
the averages over views and networks and the temperature are inside. What stays outside, because
image sizes differ and readers scale intensities in their own way, is told in the file itself
(metadata ``preprocessing``) and in :func:`export_onnx`.
"""

import json
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from meninx.bundle.bundle import Bundle
from meninx.bundle.member import join_logits
from meninx.errors import BundleError
from meninx.files import write_whole

FORMAT = "meninx-onnx-1"
# Old enough for every runtime in use, new enough to sample a grid.
OPSET = 18
LARGEST_DIFFERENCE = 1e-3
HEAD_CROP = (
    "Find the head as meninx.cohort.crop_to_head does, make all else 0 and crop to it; take the "
    "percentiles below of the head alone. "
)
PREPROCESSING = (
    "Scale the image's 0.5th and 99.5th intensity percentile to 0 and 1 (the channels of a "
    "colour image together) and clip; pad to a square with 0, the image in the middle; resize "
    "to input_size with antialiased bilinear interpolation; repeat a grey image over three "
    "channels; float32 (n, 3, input_size, input_size)."
)
# Each network sees the image itself: resized twice, it would be another image.
SEVERAL = (
    " Each further input, images_2 and so on, takes the same image resized to its own side, "
    "input_size_2 and so on; backbone, mean, std, views and augmentation are numbered alike."
)
APPLIED_INSIDE = (
    "views and their average, normalisation (mean, std), mean over networks, temperature"
)


class CalibratedNetworks(nn.Module):
    """All of a bundle's prediction from square images on.

    Parameters
    ----------
    bundle
        Its networks are shared, not copied.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.networks = nn.ModuleList(member.network for member in bundle.members)
        self._members = bundle.members
        self._temperature = bundle.card.calibration["temperature"]

    def forward(self, *squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give calibrated probabilities and mean logits, both ``(n, k)``.

        Parameters
        ----------
        squares
            For each member ``(n, 3, s, s)`` in [0, 1], s being its input size.
        """
        given = zip(self._members, squares, strict=True)
        logits = join_logits([member.compute_logits(images) for member, images in given])
        return torch.softmax(logits / self._temperature, dim=1), logits


def export_onnx(bundle: Bundle, path: Path) -> Path:
    """Write a bundle as one ONNX file and check it against the bundle.

    Parameters
    ----------
    bundle
        What to export.
    path
        Where to; the file is written whole or not at all.

    Returns
    -------
    Path
        The file. Its input ``images`` is ``(n, 3, s, s)`` float32 in [0, 1], any n, s being
        ``input_size``. Its outputs are ``probabilities`` ``(n, k)``, calibrated, what
        `meninx predict` gives, and ``logits`` ``(n, k)``, the mean over views before the
        temperature. A bundle of several networks has an input a network: ``images`` for the
        first, then ``images_2``, ``images_3`` …, each the same images at that network's own
        input size; ``logits`` are then the logarithms of the networks' mean probabilities.

    Raises
    ------
    BundleError
        The export extra is not installed, the network cannot be expressed in ONNX, or the file
        gives other numbers than the bundle.

    Notes
    -----
    Outside the graph stay reading the file, scaling its intensities, padding and resizing; the
    metadata says how. Classes, mean, std, temperature, set threshold and level, scores, the
    notice and whether the bundle is synthetic are in the metadata too, lists as JSON; what
    belongs to a network is named like its input, ``mean`` for the first, then ``mean_2``. A class
    is in an image's prediction set when its probability is at least ``set_threshold``.
    """
    onnx, onnxruntime, _ = (_import_extra(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    networks = CalibratedNetworks(bundle).eval()
    model = _trace(networks, [member.backbone.input_size for member in bundle.members])
    _strip_origins(model)
    onnx.helper.set_model_props(model, _describe(bundle))
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _check_same(session, networks, bundle)
    return write_whole(path, content)


def _import_extra(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise BundleError(
            "ONNX export needs packages that are not installed: pip install 'meninx[export]'"
        ) from error


def _number(name: str, index: int) -> str:
    """Name what there is one of for each member: plain for the first, then ``name_2``."""
    return f"{name}_{index + 1}" if index else name


def _trace(networks: nn.Module, sizes: Sequence[int]) -> Any:  # noqa: ANN401 - onnx is an extra
    """Turn the networks into an ONNX model that takes any number of images."""
    # Two images: torch.export takes a size of 1 for a constant.
    examples = [_make_probes(2, size) for size in sizes]
    batch = {0: torch.export.Dim("n")}
    try:
        with warnings.catch_warnings():
            # That all inputs share one number of images is meant so.
            warnings.filterwarnings("ignore", "# The axis name: n will not be used", UserWarning)
            program = torch.onnx.export(
                networks,
                tuple(examples),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[_number("images", index) for index in range(len(sizes))],
                output_names=["probabilities", "logits"],
                dynamic_shapes=((batch,) * len(sizes),),
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"this bundle cannot be expressed in ONNX: {reason}") from error
    assert program is not None  # it is None only without dynamo
    return program.model_proto


def _strip_origins(model: Any) -> None:  # noqa: ANN401
    """Remove what the exporter notes beside each node: paths of source files on this machine."""
    for part in (model.graph, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""
        values = getattr(part, "initializer", ())
        for item in (*part.node, *part.value_info, *values):
            del item.metadata_props[:]
            item.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]


def _describe(bundle: Bundle) -> dict[str, str]:
    """Say in the file what it is; ONNX metadata are strings, so the rest is JSON."""
    card = bundle.card
    facts: dict[str, Any] = {
        "classes": card.classes,
        **card.calibration,
        "synthetic": card.synthetic,
        "scores": card.scores,
        "cohort": card.cohort,
        "versions": card.versions,
    }
    preprocessing = (HEAD_CROP if card.is_cropped else "") + PREPROCESSING
    words = {
        "format": FORMAT,
        "notice": card.notice,
        "preprocessing": preprocessing + (SEVERAL if len(card.members) > 1 else ""),
        "applied_inside": APPLIED_INSIDE,
        "weights_sha256": card.weights_sha256,
    }
    for index, (described, member) in enumerate(zip(card.members, bundle.members, strict=True)):
        words[_number("backbone", index)] = described.backbone
        own = {
            "input_size": described.input_size,
            "mean": member.backbone.mean,
            "std": member.backbone.std,
            "views": described.views,
            "augmentation": described.augmentation,
        }
        facts.update({_number(name, index): fact for name, fact in own.items()})
    return {**words, **{name: json.dumps(fact) for name, fact in facts.items()}}


def _check_same(session: Any, networks: nn.Module, bundle: Bundle) -> None:  # noqa: ANN401
    """Compare the exported file with the bundle, on other numbers of images than traced."""
    backbones = [member.backbone for member in bundle.members]
    probes = _make_probes(3, backbones[0].input_size).permute(0, 2, 3, 1).numpy()
    for count in (1, len(probes)):
        images = list(probes[:count])
        squares = [backbone.to_square(images) for backbone in backbones]
        inputs = {_number("images", index): part.numpy() for index, part in enumerate(squares)}
        probabilities, logits = session.run(["probabilities", "logits"], inputs)
        with torch.inference_mode():
            expected_logits = networks(*squares)[1].numpy()
        predictions = [bundle.classify(image) for image in images]
        expected = np.array([list(p.probabilities.values()) for p in predictions])
        # Probabilities may all be 0 or 1; logits then still show a difference.
        scale = max(1.0, float(np.abs(expected_logits).max()))
        difference = max(
            _find_largest_difference(probabilities, expected),
            _find_largest_difference(logits, expected_logits) / scale,
        )
        if not difference < LARGEST_DIFFERENCE:  # also for NaN
            names = ", ".join(backbone.name for backbone in backbones)
            raise BundleError(
                f"the exported file differs from the bundle by {difference:.2g}, more than "
                f"{LARGEST_DIFFERENCE:g}, so it was not written; please report the backbone "
                f"({names}) and the versions of torch and onnxruntime"
            )


def _make_probes(count: int, size: int) -> torch.Tensor:
    """Make smooth images ``(count, 3, size, size)`` in [0, 1], which look less odd than noise."""
    coarse = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, (size, size), mode="bilinear")


def _find_largest_difference(given: np.ndarray, expected: Sequence[Any] | np.ndarray) -> float:
    return float(np.abs(given - np.asarray(expected)).max())

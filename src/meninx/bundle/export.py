"""Export: the bundle's network as one ONNX file, for programs without Python or torch.

The graph holds all of `predict` but the reading of the file: the views, the normalisation,
the average over views and the temperature are inside. What stays outside, because image
sizes differ and readers scale intensities in their own way, is told in the file itself
(metadata ``preprocessing``) and in :func:`export_onnx`.
"""

import json
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
from meninx.errors import BundleError
from meninx.files import write_whole
from meninx.finetune import make_views

FORMAT = "meninx-onnx-1"
# Old enough for every runtime in use, new enough to sample a grid.
OPSET = 18
LARGEST_DIFFERENCE = 1e-3
FRAMING = (
    "Find the head as meninx.cohort.frame_head does, make all else 0 and crop to it; take the "
    "percentiles below of the head alone. "
)
PREPROCESSING = (
    "Scale the image's 0.5th and 99.5th intensity percentile to 0 and 1 (the channels of a "
    "colour image together) and clip; pad to a square with 0, the image in the middle; resize "
    "to input_size with antialiased bilinear interpolation; repeat a grey image over three "
    "channels; float32 (n, 3, input_size, input_size)."
)
APPLIED_INSIDE = "views and their average, normalisation (mean, std), temperature"


class CalibratedNetwork(nn.Module):
    """All of a bundle's prediction from square images on.

    Parameters
    ----------
    bundle
        Its network is shared, not copied.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.network = bundle.network
        self._normalise = bundle.backbone.normalise
        self._views = make_views(bundle.card.views, bundle.card.augmentation)
        self._temperature = bundle.card.calibration["temperature"]

    def forward(self, squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give calibrated probabilities and mean logits, both ``(n, k)``.

        Parameters
        ----------
        squares
            ``(n, 3, s, s)`` in [0, 1].
        """
        # A view treats all channels alike. With the batch laid out as channels of one image
        # its sampling grid does not depend on n, so it is exported as a constant.
        channels = squares.flatten(0, 1)[None]
        seen = [view.apply(channels)[0].unflatten(0, (-1, 3)) for view in self._views]
        logits = self.network(self._normalise(torch.cat(seen)))
        mean = logits.unflatten(0, (len(self._views), -1)).mean(dim=0)
        return torch.softmax(mean / self._temperature, dim=1), mean


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
        temperature.

    Raises
    ------
    BundleError
        The export extra is not installed, the network cannot be expressed in ONNX, or the file
        gives other numbers than the bundle.

    Notes
    -----
    Outside the graph stay reading the file, scaling its intensities, padding and resizing; the
    metadata says how. Classes, mean, std, temperature, set threshold and level, scores, the
    notice and whether the bundle is synthetic are in the metadata too, lists as JSON. A class
    is in an image's prediction set when its probability is at least ``set_threshold``.
    """
    onnx, onnxruntime, _ = (_import_extra(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    network = CalibratedNetwork(bundle).eval()
    model = _trace(network, bundle.card.input_size)
    _strip_origins(model)
    onnx.helper.set_model_props(model, _describe(bundle))
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _check_same(session, network, bundle)
    return write_whole(path, content)


def _import_extra(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise BundleError(
            "ONNX export needs packages that are not installed: pip install 'meninx[export]'"
        ) from error


def _trace(network: nn.Module, size: int) -> Any:  # noqa: ANN401 - onnx is an extra
    """Turn the network into an ONNX model that takes any number of images."""
    # Two images: torch.export takes a size of 1 for a constant.
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities", "logits"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"this network cannot be expressed in ONNX: {reason}") from error
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
    card, backbone = bundle.card, bundle.backbone
    facts = {
        "classes": card.classes,
        "input_size": card.input_size,
        "mean": backbone.mean,
        "std": backbone.std,
        "views": card.views,
        "augmentation": card.augmentation,
        **card.calibration,
        "synthetic": card.synthetic,
        "scores": card.scores,
        "cohort": card.cohort,
        "versions": card.versions,
    }
    words = {
        "format": FORMAT,
        "notice": card.notice,
        "backbone": card.backbone,
        "preprocessing": (FRAMING if card.is_framed else "") + PREPROCESSING,
        "applied_inside": APPLIED_INSIDE,
        "weights_sha256": card.weights_sha256,
    }
    return {**words, **{name: json.dumps(fact) for name, fact in facts.items()}}


def _check_same(session: Any, network: nn.Module, bundle: Bundle) -> None:  # noqa: ANN401
    """Compare the exported file with the bundle, on other numbers of images than traced."""
    squares = _make_probes(3, bundle.card.input_size)
    for count in (1, len(squares)):
        images = squares[:count]
        probabilities, logits = session.run(["probabilities", "logits"], {"images": images.numpy()})
        with torch.inference_mode():
            expected_logits = network(images)[1].numpy()
        predictions = [bundle.classify(image.permute(1, 2, 0).numpy()) for image in images]
        expected = np.array([list(p.probabilities.values()) for p in predictions])
        # Probabilities may all be 0 or 1; logits then still show a difference.
        scale = max(1.0, float(np.abs(expected_logits).max()))
        difference = max(
            _find_largest_difference(probabilities, expected),
            _find_largest_difference(logits, expected_logits) / scale,
        )
        if not difference < LARGEST_DIFFERENCE:  # also for NaN
            raise BundleError(
                f"the exported file differs from the bundle by {difference:.2g}, more than "
                f"{LARGEST_DIFFERENCE:g}, so it was not written; please report the backbone "
                f"({bundle.card.backbone}) and the versions of torch and onnxruntime"
            )


def _make_probes(count: int, size: int) -> torch.Tensor:
    """Make smooth images ``(count, 3, size, size)`` in [0, 1], which look less odd than noise."""
    coarse = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, (size, size), mode="bilinear")


def _find_largest_difference(given: np.ndarray, expected: Sequence[Any] | np.ndarray) -> float:
    return float(np.abs(given - np.asarray(expected)).max())

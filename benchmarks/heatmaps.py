"""Where a heatmap should be taken: how much of it lies on the lesion, and does it know the model.

``python -m benchmarks.heatmaps`` fits the partial model on two folds of a phantom, draws heatmaps
of the lesions of the patients left out in several ways, and writes docs/explanations.md.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerActivation, LayerGradCam
from torch import nn

from meninx.cohort import Cohort, as_array
from meninx.evaluate import split_by_patient
from meninx.explain import (
    Localisation,
    Marked,
    Sanity,
    WeightRandomization,
    crop_to_image,
    explain,
    occlude,
    randomize_weights,
)
from meninx.explain.heatmap import HeatmapMethod, scale_by_peak
from meninx.explain.lesions import find_lesion
from meninx.finetune import FineTunedClassifier
from meninx.phantom import phantom

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanations.md"
COUNTS = {"lm": 48, "leukemia": 66, "normal": 45}
CUT = "stage5"
STAGES = ("stage2", "stage3", "stage5", "stage7")
FOLDS, FOLDS_FITTED = 3, 2
# Images of each fold in the sanity check, and those that occlusion has time for.
FORGOTTEN, OCCLUDED = 8, 10


def make_grad_cam(stage: str) -> HeatmapMethod:
    """Make Grad-CAM on the map of a stage (Selvaraju et al. 2017)."""

    def method(network: nn.Sequential, inputs: torch.Tensor, classes: list[int]) -> np.ndarray:
        layer = LayerGradCam(network, network.get_submodule(stage))
        found = layer.attribute(inputs, target=torch.tensor(classes), relu_attributions=True)
        return scale_by_peak(found.detach()[:, 0], inputs.shape[-1])

    return method


def make_layer_cam(stage: str) -> HeatmapMethod:
    """Make LayerCAM on the map of a stage (Jiang et al. 2021): each place has its own gradient."""

    def method(network: nn.Sequential, inputs: torch.Tensor, classes: list[int]) -> np.ndarray:
        layer = network.get_submodule(stage)
        names = [name for name, _ in network.named_children()]
        rest = network[names.index(stage) + 1 :]
        activations = LayerActivation(network, layer).attribute(inputs).detach().requires_grad_()
        logits = rest(activations)[torch.arange(len(inputs)), torch.tensor(classes)]
        (gradients,) = torch.autograd.grad(logits.sum(), activations)
        evidence = (activations * gradients.clamp(min=0)).sum(dim=1).clamp(min=0)
        return scale_by_peak(evidence.detach(), inputs.shape[-1])

    return method


METHODS: dict[str, HeatmapMethod] = {
    "as shipped: Grad-CAM on the last map of 14 × 14 cells": explain,
    **{f"Grad-CAM on {stage}": make_grad_cam(stage) for stage in STAGES},
    **{f"LayerCAM on {stage}": make_layer_cam(stage) for stage in STAGES},
    "occlusion, squares of a seventh": occlude,
}


def compare(cohort: Cohort) -> list[str]:
    """Give a row of Markdown for each method."""
    label = cohort.classes.index("lm")
    splits = split_by_patient(cohort.labels, cohort.groups, FOLDS, 1, 0, cohort.folds)
    marked: dict[str, list[Marked]] = defaultdict(list)
    forgotten: dict[str, list[WeightRandomization]] = defaultdict(list)
    for split in splits[:FOLDS_FITTED]:
        classifier = FineTunedClassifier(strategy="partial", cut=CUT, crop_head=cohort.is_cropped)
        classifier.fit(cohort.images[split.train], cohort.labels[split.train])
        network = classifier.network_
        samples = [cohort.samples[row] for row in split.test if cohort.labels[row] == label]
        pixels = [as_array(sample) for sample in samples]
        inputs = classifier.backbone_.prepare(pixels)
        for name, method in METHODS.items():
            count = OCCLUDED if method is occlude else len(samples)
            heatmaps = method(network, inputs[:count], [label] * count)
            for sample, image, heatmap in zip(samples, pixels, heatmaps, strict=False):
                lesion = find_lesion(sample)
                if lesion is not None:
                    cropped = crop_to_image(heatmap, *image.shape[:2])
                    own = Marked.measure(str(sample.patient), cropped, lesion.region, lesion.head)
                    marked[name].append(own)
            if method is not occlude:
                few = inputs[:FORGOTTEN]
                forgotten[name].append(randomize_weights(method, network, few, [label] * len(few)))
    return [_write_row(name, marked[name], forgotten[name]) for name in METHODS]


def _write_row(name: str, marked: list[Marked], forgotten: list[WeightRandomization]) -> str:
    found = Localisation.average(marked)
    gain = f"{found.gain.value:.2f} ({found.gain.low:.2f} to {found.gain.high:.2f})"
    alike = "–"
    if forgotten and (sanity := Sanity.judge(forgotten)):
        alike = f"{sanity.similarity:.2f} ({sanity.low:.2f} to {sanity.high:.2f})"
    return f"| {name} | {found.images} | {gain} | {found.pointing.value:.2f} | {alike} |"


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        cohort = Cohort.open(phantom(Path(folder), seed=1, counts=COUNTS))
        rows = compare(cohort)
    lines = [
        "# Heatmaps: where they are taken, and whether they find the lesion",
        "",
        f"Written by `python -m benchmarks.heatmaps`, on a phantom of {sum(COUNTS.values())} "
        f"patients (lite0, partial from {CUT}; {FOLDS_FITTED} of {FOLDS} folds, images of "
        "patients left out, whose lesions are thin lines of enhancement along the pia). Gain: the "
        "share of the heatmap on the lesion, divided by the lesion's share of the head; 1 is what "
        "a blind map gets. Pointing: images whose strongest place lies on the lesion. Alike: rank "
        "correlation with the heatmaps of a network whose weights are random (Adebayo et al. "
        "2018); the check fails where its interval reaches above 0.5.",
        "",
        "| heatmap | images | gain (95 % interval) | pointing | alike |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        "The last map of the network has 7 × 7 models, and on it Grad-CAM does no better than "
        "chance. So `explain` takes the last map with at least 14 × 14. LayerCAM does about as "
        "well there, within the intervals. Maps of earlier stages find no more of the lesion, and "
        "are more alike for a network that knows nothing: they show edges. Occlusion looks at "
        "nothing inside the network, takes a hundred times as long and finds less. Which of these "
        "was taken was decided on this phantom; a study with lesion masks measures its own "
        "heatmaps and says in its report whether they find the lesions.",
        "",
    ]
    PAGE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()

"""The bundle: gives what was trained, refuses what was altered."""

import json
import shutil

import numpy as np
import pytest

from meninx.bundle import Bundle
from meninx.errors import BundleError
from meninx.evaluate import Calibration
from meninx.finetune import FineTunedClassifier
from tests.conftest import draw_disc

FACTS = {
    "synthetic": True,
    "cohort": {"images": 12, "patients": 12, "classes": {"plain": 6, "striped": 6}},
    "scores": {"balanced_accuracy": 0.8, "low": 0.7, "high": 0.9},
    "versions": {"meninx": "0"},
}


@pytest.fixture(scope="module")
def discs():
    random = np.random.default_rng(3)
    return [draw_disc(random, row % 2) for row in range(12)]


@pytest.fixture(scope="module")
def classifier(discs):
    settings = {"strategy": "partial", "cut": "stage7", "views": 2, "epochs": 3}
    return FineTunedClassifier(**settings).fit(np.stack(discs), np.arange(12) % 2)


@pytest.fixture(scope="module")
def folder(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    Bundle.save(folder, classifier, ("plain", "striped"), Calibration(1.0, 0.3), FACTS)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_it_predicts_what_the_classifier_predicts(folder, classifier, discs):
    predictions = Bundle.open(folder).predict(discs)
    found = [list(prediction.probabilities.values()) for prediction in predictions]
    # The classifier's suffix runs in bfloat16 where the processor has it, the bundle's does not.
    np.testing.assert_allclose(found, classifier.predict_proba(np.stack(discs)), atol=0.02)


def test_temperature_softens_probabilities(classifier, discs, tmp_path):
    hot = Bundle.save(tmp_path, classifier, ("plain", "striped"), Calibration(4.0, 0.3), FACTS)
    cold = Bundle.save(tmp_path, classifier, ("plain", "striped"), Calibration(1.0, 0.3), FACTS)
    surest = [max(bundle.predict(discs[:1])[0].probabilities.values()) for bundle in (hot, cold)]
    assert 0.5 < surest[0] < surest[1]


def test_the_prediction_set_holds_the_classes_above_the_threshold(folder, discs):
    for prediction in Bundle.open(folder).predict(discs[:4]):
        above = tuple(name for name, p in prediction.probabilities.items() if p >= 0.3)
        assert prediction.prediction_set == above


def test_a_heatmap_has_the_shape_of_its_image(folder, discs):
    bundle = Bundle.open(folder)
    heatmap = bundle.explain(discs[0], "striped")
    assert heatmap.shape == discs[0].shape and 0 <= heatmap.min() <= heatmap.max() <= 1
    with pytest.raises(BundleError, match="plain, striped, not 'purple'"):
        bundle.explain(discs[0], "purple")


def test_it_says_what_it_is_and_that_it_is_no_medical_device(folder):
    card = json.loads((folder / "bundle.json").read_text())
    assert "not a medical device" in card["notice"]
    assert card["pretrained"]["kind"] == "packaged" and len(card["pretrained"]["sha256"]) == 64
    assert card["synthetic"] is True and card["scores"]["balanced_accuracy"] == 0.8


def test_it_holds_only_numbers_and_text(folder):
    assert {file.name for file in folder.iterdir()} == {"bundle.json", "weights.safetensors"}


@pytest.mark.parametrize(
    "fault", ["weights", "lost weights", "lost card", "format", "field", "text"]
)
def test_an_altered_or_incomplete_bundle_is_refused(fault, copied):
    weights, card = copied / "weights.safetensors", copied / "bundle.json"
    if fault == "weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif fault == "lost weights":
        weights.unlink()
    elif fault == "lost card":
        card.unlink()
    elif fault == "text":
        card.write_text("{")
    else:
        fields = json.loads(card.read_text())
        fields["format" if fault == "format" else "unheard of"] = "other"
        card.write_text(json.dumps(fields))
    with pytest.raises(BundleError):
        Bundle.open(copied)

"""What export promises: one ONNX file that gives the bundle's own numbers, or none."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meninx.bundle import Bundle
from meninx.errors import BundleError
from meninx.evaluate import Calibration
from meninx.finetune import SCRATCH, Ensemble, FineTunedClassifier, Recipe

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from meninx.bundle import export  # noqa: E402 - after the extras are known to be there

CLASSES = ("left", "right")


def draw(side: int, seed: int, height: int = 90, width: int = 70) -> np.ndarray:
    """Draw a grey disc with a bright spot on one of its sides."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = (x**2 + y**2 < 0.8) * (0.4 + 0.2 * random.random((height, width)))
    image[(x - (0.4 if side else -0.4)) ** 2 + y**2 < 0.05] = 1
    return image.astype(np.float32)


def make_bundle(folder: Path, *members: FineTunedClassifier) -> Bundle:
    labels = [0, 1] * 4
    images = [draw(label, seed) for seed, label in enumerate(labels)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENINX_CACHE", str(folder / "cache"))
        fitted = [member.fit(images, labels) for member in members]
    classifier = Ensemble.of_fitted(fitted) if len(fitted) > 1 else fitted[0]
    facts = {
        "synthetic": True,
        "cohort": {"images": 8, "patients": 8},
        "scores": {"balanced_accuracy": 0.8, "low": 0.7, "high": 0.9},
        "versions": {},
    }
    return Bundle.save(folder / "bundle", classifier, CLASSES, Calibration(2.0, 0.2), facts)


def make_tiny(size: int, views: int = 3, seed: int = 0) -> FineTunedClassifier:
    """Make a classifier around timm's smallest network, which needs no weights."""
    return FineTunedClassifier(
        "test_efficientnet",
        "scratch",
        recipe=replace(SCRATCH, views=views, image_size=size, epochs=2, fewest_steps=3),
        crop_head=False,
        random_state=seed,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Make a bundle of one tiny network, which exports fast."""
    folder = tmp_path_factory.mktemp("tiny")
    return make_bundle(folder, make_tiny(64))


@pytest.fixture(scope="module")
def exported(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.export_onnx(bundle, tmp_path_factory.mktemp("onnx") / "model.onnx")


def assert_same_answers(path: Path, bundle: Bundle) -> None:
    images = [draw(seed % 2, seed + 100) for seed in range(5)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ["images", "images_2", "images_3"][: len(bundle.members)]
    assert [given.name for given in session.get_inputs()] == names
    for count in (1, 2, 5):
        squares = {
            name: member.backbone.to_square(images[:count]).numpy()
            for name, member in zip(names, bundle.members, strict=True)
        }
        probabilities, logits = session.run(["probabilities", "logits"], squares)
        expected = [list(p.probabilities.values()) for p in bundle.predict(images[:count])]
        assert probabilities.shape == logits.shape == (count, len(CLASSES))
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)
        # Not all 0 or 1, or a wrong temperature would go unseen.
        assert ((probabilities > 0.01) & (probabilities < 0.99)).any()


def test_the_file_gives_what_the_bundle_predicts_for_any_number_of_images(
    bundle: Bundle, exported: Path
) -> None:
    assert_same_answers(exported, bundle)


@pytest.mark.slow
def test_a_default_network_at_its_own_size_gives_the_same_answers_too(tmp_path: Path) -> None:
    bundle = make_bundle(
        tmp_path,
        FineTunedClassifier(strategy="frozen", recipe=Recipe(views=3, C=1e-4), crop_head=False),
    )
    assert_same_answers(export.export_onnx(bundle, tmp_path / "model.onnx"), bundle)


def test_the_file_is_one_valid_onnx_file_that_says_what_it_is(
    bundle: Bundle, exported: Path
) -> None:
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    model = onnx.load(exported)
    onnx.checker.check_model(model)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["synthetic"]) is True
    assert json.loads(facts["temperature"]) == 2.0
    assert json.loads(facts["set_threshold"]) == 0.2
    backbone = bundle.members[0].backbone
    assert json.loads(facts["mean"]) == list(backbone.mean)
    assert json.loads(facts["std"]) == list(backbone.std)
    assert json.loads(facts["input_size"]) == 64
    assert json.loads(facts["views"]) == 3
    assert "not a medical device" in facts["notice"]
    assert "pad to a square" in facts["preprocessing"] and "images_2" not in facts["preprocessing"]
    assert facts["backbone"] == "test_efficientnet" and "backbone_2" not in facts


@pytest.mark.filterwarnings("error:# The axis name")
def test_an_ensemble_is_one_file_with_an_input_for_each_network(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, make_tiny(64), make_tiny(80, views=2, seed=1))
    path = export.export_onnx(bundle, tmp_path / "model.onnx")
    assert_same_answers(path, bundle)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["input_size"]) == 64 and json.loads(facts["input_size_2"]) == 80
    assert json.loads(facts["views"]) == 3 and json.loads(facts["views_2"]) == 2
    assert facts["backbone_2"] == "test_efficientnet" and "images_2" in facts["preprocessing"]


def test_the_file_names_no_path_of_this_machine(exported: Path) -> None:
    content = exported.read_bytes()
    for origin in (b"site-packages", b"meninx/bundle", os.fsencode(Path.cwd()), b".py"):
        assert origin not in content


def test_a_file_that_differs_from_the_bundle_is_not_written(
    bundle: Bundle, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = onnx.load(exported)
    biases = {item.name: item for item in damaged.graph.initializer if "bias" in item.name}
    bias = next(item for name, item in biases.items() if name.endswith("head.1.bias"))
    shifted = onnx.numpy_helper.to_array(bias) + np.array([0.02, 0], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
    monkeypatch.setattr(export, "_trace", lambda *_: damaged)
    with pytest.raises(BundleError, match="differs from the bundle"):
        export.export_onnx(bundle, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BundleError, match=r"pip install 'meninx\[export\]'"):
        export.export_onnx(bundle, tmp_path / "model.onnx")

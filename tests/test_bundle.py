"""The bundle: gives what was trained, refuses what was altered."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.special import expit

from meninx.backbones import Backbone
from meninx.bundle import Bundle
from meninx.bundle.card import read_card
from meninx.cohort import as_head
from meninx.errors import BundleError
from meninx.evaluate import Calibration
from meninx.finetune import Ensemble, FineTunedClassifier, Recipe
from meninx.ood import OODDetector
from tests.conftest import draw_disc
from tests.test_head_crop import draw_head, white_frame

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
    recipe = Recipe(epochs=2, fewest_steps=4, views=2)
    settings = {"strategy": "partial", "cut": "stage7", "recipe": recipe, "crop_head": False}
    return FineTunedClassifier(**settings).fit(np.stack(discs), np.arange(12) % 2)


@pytest.fixture(scope="module")
def folder(classifier, discs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    ood = OODDetector.fit(discs, np.arange(12))
    Bundle.save(folder, classifier, ("plain", "striped"), Calibration(1.0, 0.3), FACTS, ood)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def ensemble(discs):
    members = [
        FineTunedClassifier(
            name, "frozen", recipe=Recipe(views=views, image_size=size, C=0.01), crop_head=False
        )
        for name, views, size in (
            ("tf_efficientnet_lite0", 2, 64),
            ("tf_efficientnet_lite1", 3, 72),
        )
    ]
    return Ensemble(members).fit(np.stack(discs), np.arange(12) % 2)


@pytest.fixture(scope="module")
def joint_folder(ensemble, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "bundle"
    Bundle.save(folder, ensemble, ("plain", "striped"), Calibration(1.0, 0.3), FACTS)
    return folder


@pytest.fixture
def joint_copied(joint_folder, tmp_path):
    shutil.copytree(joint_folder, tmp_path / "joint")
    return tmp_path / "joint"


def test_it_predicts_what_the_classifier_predicts(folder, classifier, discs):
    predictions = Bundle.open(folder).predict(discs)
    found = [list(prediction.probabilities.values()) for prediction in predictions]
    # The classifier's suffix runs in bfloat16 where the processor has it, the bundle's does not.
    np.testing.assert_allclose(found, classifier.predict_proba(np.stack(discs)), atol=0.02)


def test_its_quick_networks_answer_as_those_it_holds(joint_folder, discs):
    for member in Bundle.open(joint_folder).members:
        kept = {name: tensor.clone() for name, tensor in member.network.state_dict().items()}
        with torch.inference_mode():
            expected = member.compute_logits(member.backbone.to_square(discs))
        found = torch.cat([member.answer(pixels) for pixels in discs])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert expected.std(dim=0).min() > 1e-2
        left = member.network.state_dict()
        assert all(torch.equal(left[name], tensor) for name, tensor in kept.items())


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
    (member,) = card["members"]
    assert member["pretrained"]["kind"] == "packaged" and len(member["pretrained"]["sha256"]) == 64
    assert card["synthetic"] is True and card["scores"]["balanced_accuracy"] == 0.8


def test_it_holds_only_numbers_and_text(folder):
    assert {file.name for file in folder.iterdir()} == {
        "bundle.json", "weights.safetensors", "ood.safetensors",
    }  # fmt: skip


def test_an_image_unlike_the_training_images_is_flagged(folder, discs):
    noise = np.random.default_rng(0).uniform(0, 1, (90, 90)).astype(np.float32)
    bundle = Bundle.open(folder)
    alike, unlike = bundle.predict([discs[0], noise])
    assert not alike.ood.is_out_of_distribution and unlike.ood.is_out_of_distribution
    described = unlike.describe("image.png", heatmap=None)
    assert described["out_of_distribution"] is True and described["patient"] is None
    assert described["ood"]["score"] > described["ood"]["threshold"]
    assert bundle.card.ood["false_alarm_rate"]["high"] > 0


def test_a_bundle_without_a_detector_says_that_it_cannot_tell(classifier, discs, tmp_path):
    bundle = Bundle.save(tmp_path, classifier, ("a", "b"), Calibration(1.0, 0.3), FACTS)
    described = bundle.predict(discs[:1])[0].describe("image.png", heatmap=None)
    assert described["out_of_distribution"] is None and described["ood"] is None


def test_saving_again_without_a_detector_leaves_none_behind(copied, classifier):
    Bundle.save(copied, classifier, ("a", "b"), Calibration(1.0, 0.3), FACTS)
    assert not (copied / "ood.safetensors").exists()
    assert Bundle.open(copied).ood is None


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


@pytest.mark.parametrize("fault", ["lost", "altered", "numbers"])
def test_an_altered_detector_is_refused(fault, copied):
    file = copied / "ood.safetensors"
    if fault == "lost":
        file.unlink()
    elif fault == "altered":
        file.write_bytes(file.read_bytes() + b" ")
    else:
        change_card(copied, ood={**read_fields(copied)["ood"], "threshold": "far"})
    with pytest.raises(BundleError, match=r"ood|unlike images"):
        Bundle.open(copied)


def get_probabilities(predictions):
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(joint_folder, ensemble, discs):
    bundle = Bundle.open(joint_folder)
    expected = ensemble.predict_proba(np.stack(discs))
    np.testing.assert_allclose(get_probabilities(bundle.predict(discs)), expected, atol=1e-5)
    assert [member.backbone.input_size for member in bundle.members] == [64, 72]
    # Neither of the members alone, nor the mean of their logits, would pass for it.
    for member in ensemble.members_:
        assert np.abs(member.predict_proba(np.stack(discs)) - expected).max() > 1e-3
    logits = sum(member.decision_function(np.stack(discs)) for member in ensemble.members_) / 2
    assert np.abs(expit(logits) - expected[:, 1]).max() > 1e-4


def test_an_ensembles_heatmap_is_the_mean_of_its_members(joint_folder, discs):
    bundle = Bundle.open(joint_folder)
    seen, prediction, heatmap = bundle.examine(discs[0])
    index = bundle.card.classes.index(prediction.most_probable)
    each = [member.explain(seen, index) for member in bundle.members]
    assert heatmap.shape == discs[0].shape and 0 <= heatmap.min() <= heatmap.max() <= 1
    assert np.abs(each[0] - each[1]).max() > 0.1
    np.testing.assert_allclose(heatmap, (each[0] + each[1]) / 2, atol=1e-6)
    np.testing.assert_array_equal(heatmap, bundle.explain(discs[0], prediction.most_probable))


def swap_weights(tensors):
    """Give each of two members the weights of the other."""
    other = {"member1": "member2", "member2": "member1"}
    return {f"{other[name[:7]]}{name[7:]}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no member", "'members'"),
        ("nine members", "'members'"),
        ("a member lost in the card", "not of the networks in its card"),
        ("a member lost in the weights", "member2 .* cannot be used"),
        ("weights swapped", "member1 .* do not fit its card"),
        ("cards swapped", "member1 .* do not fit its card"),
        ("too many pixels together", "memory"),
    ],
)
def test_an_altered_ensemble_is_refused(fault, said, joint_copied):
    tensors = load_file(joint_copied / "weights.safetensors")
    members = read_fields(joint_copied)["members"]
    if fault == "no member":
        change_card(joint_copied, members=[])
    elif fault == "nine members":
        change_card(joint_copied, members=9 * members[:1])
    elif fault == "a member lost in the card":
        change_card(joint_copied, members=members[:1])
    elif fault == "cards swapped":
        change_card(joint_copied, members=members[::-1])
    elif fault == "too many pixels together":
        for index in range(2):
            change_member(joint_copied, index, input_size=512, views=40)
    elif fault == "weights swapped":
        replace_weights(joint_copied, swap_weights(tensors))
    else:
        kept = {name: tensors[name] for name in tensors if name.startswith("member1.")}
        replace_weights(joint_copied, kept)
    with pytest.raises(BundleError, match=said):
        Bundle.open(joint_copied)


def test_a_bundle_of_the_first_format_is_refused_with_advice(copied):
    change_card(copied, format="meninx-bundle-1")
    with pytest.raises(BundleError, match="run the study again"):
        Bundle.open(copied)


def read_fields(folder):
    return json.loads((folder / "bundle.json").read_text())


def change_card(folder, **changes):
    (folder / "bundle.json").write_text(json.dumps({**read_fields(folder), **changes}))


def change_member(folder, index, **changes):
    members = read_fields(folder)["members"]
    members[index].update(changes)
    change_card(folder, members=members)


def replace_weights(folder, tensors):
    """Write other weights with a card that vouches for them."""
    save_file(tensors, folder / "weights.safetensors")
    content = (folder / "weights.safetensors").read_bytes()
    change_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


HOSTILE_MEMBERS = {
    "no views": {"views": 0},
    "negative size": {"input_size": -224},
    "huge size": {"input_size": 10**9},
    "large views in large number": {"input_size": 4096, "views": 256},
    "size as text": {"input_size": "224"},
    "a truth for a number": {"views": True},
    "huge layer": {"extra_layers": [65536, 65536]},
    "negative layer": {"extra_layers": [-1]},
    "layers as text": {"extra_layers": "77"},
    "a path for a backbone": {"backbone": "../../etc/passwd"},
    "a hub for a backbone": {"backbone": "hf-hub:someone/something"},
    "a folder for a backbone": {"backbone": "local-dir:/tmp"},
    "a larger backbone": {"backbone": "vgg19"},
    "an unknown backbone": {"backbone": "nosuchnet"},
    "a field unheard of": {"members": []},
}
HOSTILE = {
    "members as text": {"members": "ab"},
    "a number for a member": {"members": [3]},
    "nothing in a member": {"members": [{}]},
    "one class": {"classes": ["plain"]},
    "classes alike": {"classes": ["plain", "plain"]},
    "classes as text": {"classes": "ab"},
    "no text in classes": {"classes": ["plain", 3]},
    "terminal codes": {"classes": ["plain", "\x1b[2J"]},
    "no checksum": {"weights_sha256": None},
    "no calibration": {"calibration": {}},
    "temperature zero": {"calibration": {"temperature": 0, "set_threshold": 0.1}},
    "temperature below zero": {"calibration": {"temperature": -1, "set_threshold": 0.1}},
    "temperature no number": {"calibration": {"temperature": float("nan"), "set_threshold": 0}},
    "temperature as a list": {"calibration": {"temperature": [1], "set_threshold": [[1], [2]]}},
    "threshold as text": {"calibration": {"temperature": 1, "set_threshold": "high"}},
    "ood as a list": {"ood": [1]},
    "ood without anything": {"ood": {}},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_card_is_refused_before_it_costs_anything(changes, copied):
    change_card(copied, **changes)
    with pytest.raises(BundleError):
        Bundle.open(copied)


@pytest.mark.parametrize("changes", HOSTILE_MEMBERS.values(), ids=HOSTILE_MEMBERS)
def test_a_hostile_member_is_refused_as_well(changes, copied):
    change_member(copied, 0, **changes)
    with pytest.raises(BundleError):
        Bundle.open(copied)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"views": ' + b"9" * 5000 + b"}", b" " * 2**21],
    ids=["empty", "list", "no text", "deep", "long number", "large"],
)
def test_a_card_that_is_no_card_is_refused(content, copied):
    (copied / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.open(copied)


def test_a_folder_in_the_place_of_a_file_is_refused(copied):
    for name in ("weights.safetensors", "bundle.json"):
        (copied / name).unlink()
        (copied / name).mkdir()
        with pytest.raises(BundleError):
            Bundle.open(copied)


@pytest.mark.parametrize("fault", ["no number", "other names", "other shape"])
def test_weights_that_the_card_vouches_for_are_looked_at_all_the_same(fault, copied):
    tensors = load_file(copied / "weights.safetensors")
    name = next(name for name in tensors if name.startswith("member1.head"))
    if fault == "no number":
        tensors[name][...] = float("nan")
    elif fault == "other names":
        tensors["member1.head.99.weight"] = tensors.pop(name)
    else:
        tensors[name] = torch.zeros(3, 3)
    replace_weights(copied, tensors)
    with pytest.raises(BundleError, match="weights"):
        Bundle.open(copied)


def test_no_network_is_built_for_a_card_that_its_weights_cannot_fill(joint_copied, monkeypatch):
    monkeypatch.setattr(Backbone, "untrained", lambda *_: pytest.fail("a network was built"))
    change_member(joint_copied, 1, backbone="vgg19")
    with pytest.raises(BundleError, match=r"member2 .* larger network"):
        Bundle.open(joint_copied)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = sorted([
    "format", "notice", "synthetic", "members", "classes", "calibration", "cohort", "scores",
    "versions", "weights_sha256", "ood",
])  # fmt: skip
MEMBER_FIELDS = sorted([
    "backbone", "strategy", "cut", "extra_layers", "pretrained", "views", "augmentation",
    "input_size",
])  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(st.sampled_from([*FIELDS, "other"]), JSON, max_size=3),
    own=st.dictionaries(st.sampled_from([*MEMBER_FIELDS, "other"]), JSON, max_size=3),
)
def test_whatever_stands_in_a_card_is_read_or_refused(changes, own, folder, tmp_path):
    fields = read_fields(folder)
    fields["members"][0].update(own)
    fields.update(changes)
    (tmp_path / "bundle.json").write_text(json.dumps(fields))
    try:
        card = read_card(tmp_path)
    except BundleError:
        return
    pixels = [member.views * member.input_size**2 for member in card.members]
    assert min(pixels) > 0 and sum(pixels) < 2**25 and len(card.classes) >= 2


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(["calibration", "ood"]), data=st.data())
def test_whatever_stands_in_its_parts_opens_or_is_refused(name, data, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    part = read_fields(folder)[name]
    part[data.draw(st.sampled_from([*part, "other"]))] = data.draw(JSON)
    change_card(tmp_path, **{name: part})
    try:
        bundle = Bundle.open(tmp_path)
    except BundleError:
        return
    (prediction,) = bundle.predict([np.eye(40, dtype=np.float32)])
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_a_bundle_trained_on_heads_is_given_the_head_of_a_new_image(folder, tmp_path):
    bundle = Bundle.open(folder)
    pixels, _ = draw_head()
    Image.fromarray((255 * white_frame(pixels)).astype(np.uint8)).save(tmp_path / "new.png")
    framed = replace(bundle, card=replace(bundle.card, is_cropped=True))
    assert bundle.see(tmp_path / "new.png").shape == pixels.shape
    head = framed.see(tmp_path / "new.png")
    np.testing.assert_array_equal(head, as_head(tmp_path / "new.png"))
    (prediction,) = framed.predict([tmp_path / "new.png"])
    assert prediction == framed.classify(head) == bundle.classify(head)
    seen, examined, heatmap = framed.examine(tmp_path / "new.png")
    assert examined == prediction and heatmap.shape == seen.shape[:2] == head.shape

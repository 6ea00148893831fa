"""Fine-tuning: scikit-learn's manners, a prefix that stays frozen and is run only once."""

from dataclasses import replace

import numpy as np
import pytest
import scipy
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from torch import nn

from meninx.backbones import Backbone
from meninx.errors import CohortError, StudyError, TrainingError
from meninx.finetune import (
    ActivationStore,
    FineTunedClassifier,
    Strategy,
    activations,
    compute_histograms,
    load_backbone,
    make_histogram_classifier,
    make_majority_classifier,
    make_views,
)
from meninx.finetune.activations import StoredActivations
from meninx.finetune.classifier import START_REGULARISATION
from meninx.finetune.heads import build_head, solve_linear_head, solve_linear_heads
from meninx.finetune.regression import solve_regressions
from meninx.finetune.training import Recipe, draw_batches, train
from tests.conftest import draw_disc

LITE0 = "tf_efficientnet_lite0"
SMALL = {"views": 2, "image_size": 64, "epochs": 4}


@pytest.fixture(scope="module")
def discs():
    random = np.random.default_rng(5)
    labels = np.arange(18) % 3
    return np.stack([draw_disc(random, label) for label in labels]), labels


# Views


def test_the_first_view_is_the_image_itself():
    squares = torch.rand(2, 3, 32, 32)
    assert torch.equal(make_views(4)[0].apply(squares), squares)


def test_views_are_the_same_every_time_and_a_longer_set_starts_with_the_shorter():
    assert make_views(8)[:4] == make_views(4)


def test_views_keep_shape_and_range_and_differ():
    squares = torch.rand(1, 3, 32, 32)
    seen = [view.apply(squares) for view in make_views(8)]
    assert all(view.shape == squares.shape and 0 <= view.min() <= view.max() <= 1 for view in seen)
    assert all(not torch.equal(seen[0], other) for other in seen[1:])


def test_without_strength_views_only_flip():
    squares = torch.rand(1, 1, 32, 32)
    flipped = make_views(2, strength=0)[1].apply(squares)
    assert torch.allclose(flipped, squares.flip(3), atol=1e-5)


# Activations


@pytest.mark.parametrize("cut", ["stage3", "stage7", "head"])
def test_stored_activations_are_what_the_prefix_gives(cut, discs, tmp_path):
    backbone, views = load_backbone(LITE0).resized(64), make_views(3)
    stored = ActivationStore(tmp_path).get(backbone, cut, discs[0][:2], views)
    square = backbone.to_square([discs[0][1]])
    with torch.inference_mode():
        expected = backbone.prefix(cut)(backbone.normalise(views[2].apply(square)))
    difference = (stored.batch([1], [2]) - expected).abs().max()
    assert difference < 1e-4 * expected.abs().max()


def test_the_prefix_is_run_once_for_all_folds(discs, tmp_path, monkeypatch):
    backbone = load_backbone(LITE0).resized(64)
    runs = []
    look = activations.look
    monkeypatch.setattr(activations, "look", lambda *inputs: (runs.append(1), look(*inputs))[1])
    store = ActivationStore(tmp_path)
    for rows in ([0, 1, 2], [1, 2], [2, 0]):
        store.get(backbone, "stage7", discs[0][rows], make_views(2))
    assert sum(runs) == 3


@pytest.mark.parametrize("change", ["pixels", "views", "cut", "size"])
def test_other_contents_have_other_files(change, discs, tmp_path):
    store, backbone, images = ActivationStore(tmp_path), load_backbone(LITE0), discs[0][:1]
    backbone = backbone.resized(64)
    store.fill(backbone, ("stage7",), images, make_views(2))
    before = len(list(tmp_path.rglob("*.safetensors")))
    store.fill(
        backbone.resized(96) if change == "size" else backbone,
        ("head",) if change == "cut" else ("stage7",),
        images * 0.5 if change == "pixels" else images,
        make_views(3 if change == "views" else 2),
    )
    assert len(list(tmp_path.rglob("*.safetensors"))) == before + 1


@pytest.mark.parametrize("fault", ["truncated", "empty", "foreign"])
def test_a_damaged_file_is_computed_again(fault, discs, tmp_path):
    store, backbone = ActivationStore(tmp_path), load_backbone(LITE0).resized(64)
    arguments = (backbone, "head", discs[0][:1], make_views(2))
    right = store.get(*arguments).batch([0], [1]).clone()
    (file,) = tmp_path.rglob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes({"truncated": content[:-10], "empty": b"", "foreign": b"GIF89a" * 99}[fault])
    assert torch.equal(store.get(*arguments).batch([0], [1]), right)


def test_an_image_has_the_same_activations_whoever_it_is_with(discs, tmp_path):
    backbone, views = load_backbone(LITE0).resized(64), make_views(2)
    alone = ActivationStore(tmp_path / "1").get(backbone, "stage7", discs[0][3:4], views)
    among = ActivationStore(tmp_path / "2").get(backbone, "stage7", discs[0], views)
    assert torch.equal(alone.batch([0], [1]), among.batch([3], [1]))


# Heads


def make_features(classes, images=45, views=2, width=100):
    """Features like a network's, never negative, and of their class a little: ``(n, v, d)``."""
    random = np.random.default_rng(0)
    labels = np.arange(images) % classes
    centres = random.normal(size=(classes, 1, width))[labels]
    own = random.normal(size=(images, 1, width)) @ random.normal(size=(width, width)) / 10
    features = 0.3 * centres + own + 0.5 * random.normal(size=(images, views, width))
    return np.maximum(features + 1, 0).astype(np.float32), labels


def ask_scikit_learn(features, labels, side, regularisation):
    """Fit on the rows of a side, to the last digit; give probabilities ``(n, v, k)`` of all."""
    _, views, width = features.shape
    rows = features[side].reshape(-1, width).astype(float)
    mean, deviation = rows.mean(0), rows.std(0)
    factor = np.sqrt(100 / width) / np.where(deviation > 0, deviation, 1)
    reference = LogisticRegression(
        C=regularisation / views, class_weight="balanced", max_iter=10_000, tol=1e-9
    ).fit((rows - mean) * factor, np.repeat(labels[side], views))
    found = reference.predict_proba((features.reshape(-1, width) - mean) * factor)
    return found.reshape(*features.shape[:2], -1)


def ask(layer, features):
    """Give a linear head's probabilities ``(n, v, k)``."""
    with torch.inference_mode():
        return layer(torch.from_numpy(features)).softmax(dim=-1).numpy()


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("regularisation", [0.03, 1.0, 3.0])
def test_heads_solved_together_are_what_scikit_learn_gives_one_by_one(classes, regularisation):
    features, labels = make_features(classes)
    features[:, :, 7] = 3.0  # tells nothing, and has no variance to divide by
    rows = np.arange(len(labels))
    # Of several sizes, whose classes are not equally frequent.
    sides = [rows[rows // 9 != fold] for fold in range(5)] + [rows[:31], rows]
    heads = solve_linear_heads(features, labels, sides, regularisation)
    for head, side in zip(heads, sides, strict=True):
        expected = ask_scikit_learn(features, labels, side, regularisation)
        np.testing.assert_allclose(ask(head, features), expected, atol=1e-3)


def test_several_strengths_are_solved_together():
    features, labels = make_features(3)
    side, strengths = np.arange(40), [0.01, 0.1, 1.0, 10.0]
    solved = solve_regressions(features, labels, [side] * 4, strengths)
    for strength, (weights, biases) in zip(strengths, solved, strict=True):
        found = scipy.special.softmax(features @ weights.T + biases, axis=-1)
        expected = ask_scikit_learn(features, labels, side, strength)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_head_does_not_depend_on_the_others_nor_on_images_that_it_is_not_fitted_on():
    features, labels = make_features(3)
    rows = np.arange(len(labels))
    sides = [rows[rows % 40 != fold] for fold in range(40)]  # more than are solved at a time
    together = solve_linear_heads(features, labels, sides, 1.0)
    changed = features.copy()
    changed[rows % 40 == 0] = 9.0
    (alone,) = solve_linear_heads(changed, labels, sides[:1], 1.0)
    np.testing.assert_allclose(ask(alone, features), ask(together[0], features), atol=1e-3)
    again = solve_linear_heads(features, labels, sides, 1.0)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(together, again, strict=True))


def test_a_feature_that_only_held_out_images_have_counts_for_nothing():
    features, labels = make_features(3)
    features[:5, :, 0], features[5:, :, 0] = 1e4, 0.0
    (head,) = solve_linear_heads(features, labels, [np.arange(5, 45)], 1.0)
    assert (head.weight[:, 0] == 0).all()


def test_a_training_side_without_a_class_is_refused():
    features, labels = make_features(3)
    with pytest.raises(CohortError, match="one of the classes"):
        solve_linear_heads(features, labels, [np.arange(45), np.flatnonzero(labels)], 1.0)


def test_features_without_any_difference_give_the_frequencies_of_weighted_classes():
    head = solve_linear_head(np.ones((6, 1, 4), np.float32), np.array([0, 0, 0, 0, 1, 1]), 1.0)
    np.testing.assert_allclose(ask(head, np.ones((1, 1, 4), np.float32)), 0.5, atol=1e-3)


# The classifier


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "frozen"},
        {"strategy": "frozen", "extra_layers": (16,)},
        {"strategy": "partial", "cut": "stage7"},
        {"strategy": "full"},
        {"strategy": "scratch"},
    ],
    ids=str,
)
def test_every_strategy_fits_and_predicts(settings, discs):
    images, labels = discs
    names = np.array(["plain", "striped", "dotted"])[labels]
    classifier = FineTunedClassifier(**SMALL, **settings).fit(images, names)
    probabilities = classifier.predict_proba(images)
    assert classifier.classes_.tolist() == ["dotted", "plain", "striped"]
    assert probabilities.shape == (18, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert set(classifier.predict(images)) <= set(names)


@pytest.mark.parametrize("strategy", ["frozen", "partial"])
def test_transfer_learns_what_is_there_to_learn(strategy, discs):
    images, labels = discs
    classifier = FineTunedClassifier(
        strategy=strategy, cut="stage7" if strategy == "partial" else None, views=2
    )
    folds, patients = StratifiedGroupKFold(3), np.arange(18)
    predicted = cross_val_predict(classifier, images, labels, groups=patients, cv=folds)
    assert (predicted == labels).mean() > 0.8


def test_folds_predicted_together_are_predicted_as_one_by_one(discs):
    images, labels = discs
    classifier = FineTunedClassifier(**SMALL)
    rows = np.arange(18)
    sides = [(np.delete(rows, test), test) for test in (rows[:3], rows[3:8])]
    together = classifier.cross_predict(images, labels, sides)
    for (side, test), found in zip(sides, together, strict=True):
        alone = clone(classifier).fit(images[side], labels[side]).predict_proba(images[test])
        np.testing.assert_allclose(found, alone, atol=1e-3)
    with pytest.raises(StudyError, match="together"):
        FineTunedClassifier(**SMALL, extra_layers=(4,)).cross_predict(images, labels, sides)


def test_two_classes_have_one_decision_value_that_scorers_understand(discs):
    images, labels = discs
    some = labels < 2
    fitted = FineTunedClassifier(**SMALL).fit(images[some], labels[some])
    decision = fitted.decision_function(images[some])
    assert decision.shape == (some.sum(),)
    np.testing.assert_allclose(
        scipy.special.expit(decision), fitted.predict_proba(images[some])[:, 1], atol=1e-6
    )
    assert get_scorer("roc_auc")(fitted, images[some], labels[some]) == 1.0


def test_it_is_cloned_and_asked_for_its_parameters_as_scikit_learn_does():
    classifier = FineTunedClassifier(strategy="partial", cut="stage6", epochs=3)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(epochs=5).epochs == 5


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("strategy", ["frozen", "partial", "scratch"])
def test_the_same_seed_gives_the_same_network_bit_for_bit(strategy, discs):
    cut = "stage7" if strategy == "partial" else None
    first, second = (
        FineTunedClassifier(strategy=strategy, cut=cut, **SMALL).fit(*discs).network_.state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("strategy", "cut"), [("frozen", None), ("partial", "stage7")])
def test_fitting_leaves_the_global_random_state_alone(strategy, cut, discs):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    FineTunedClassifier(strategy=strategy, cut=cut, **SMALL).fit(*discs)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_prefix_stays_as_it_was_batch_statistics_too(discs):
    classifier = FineTunedClassifier(strategy="partial", cut="stage7", **SMALL).fit(*discs)
    pretrained = Backbone.load(LITE0).network.state_dict()
    fitted = classifier.network_.state_dict()
    frozen = [name for name in pretrained if not name.startswith(("stage7", "pool"))]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(fitted[name], pretrained[name]) for name in frozen)
    assert not torch.equal(fitted["stage7.conv_head.weight"], pretrained["stage7.conv_head.weight"])
    untouched = load_backbone(LITE0).network.state_dict()
    assert all(torch.equal(untouched[name], pretrained[name]) for name in pretrained)


def test_the_network_is_what_the_classifier_predicts_with(discs):
    images, labels = discs
    classifier = FineTunedClassifier(strategy="partial", cut="stage7", **{**SMALL, "views": 1})
    classifier.fit(images, labels)
    with torch.inference_mode():
        logits = classifier.network_(classifier.backbone_.prepare(list(images)))
    # The suffix runs in bfloat16 where the processor has it.
    np.testing.assert_allclose(
        torch.softmax(logits, 1).numpy(), classifier.predict_proba(images), atol=0.02
    )


@pytest.mark.usefixtures("brief")
def test_scratch_starts_from_random_weights(discs):
    classifier = FineTunedClassifier(strategy=Strategy.SCRATCH, **{**SMALL, "epochs": 1})
    classifier.fit(*discs)
    pretrained = Backbone.load(LITE0).network[0].state_dict()
    fitted = classifier.network_[0].state_dict()
    assert not torch.allclose(fitted["conv_stem.weight"], pretrained["conv_stem.weight"], atol=0.05)


def test_classes_weigh_the_same_however_many_images_they_have(discs):
    images, labels = discs
    rare = np.concatenate([np.flatnonzero(labels == 0)[:2], np.flatnonzero(labels == 1)])
    classifier = FineTunedClassifier(regularisation=1e-4, **SMALL).fit(images[rare], labels[rare])
    # So strongly regularised, only the prior is left: balanced, not 2 to 6.
    assert classifier.predict_proba(images[rare])[:, 0].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "partial"}, "needs a cut"),
        ({"strategy": "partial", "cut": "stage99"}, "stage99"),
        ({"strategy": "frozen", "cut": "stage3"}, "has no cut"),
    ],
)
def test_a_strategy_and_a_cut_that_do_not_go_together_are_refused(settings, message, discs):
    with pytest.raises(StudyError, match=message):
        FineTunedClassifier(**SMALL, **settings).fit(*discs)


@pytest.mark.parametrize("cut", ["stage7", "head"])
def test_training_that_leaves_the_numbers_is_refused(cut, discs):
    images, labels = discs
    classifier = FineTunedClassifier(
        LITE0, "partial", cut, views=1, epochs=2, image_size=64, learning_rate=1e30
    )
    with pytest.raises(TrainingError, match="learning rate of 1e\\+30"):
        classifier.fit(images, labels)


@pytest.mark.usefixtures("brief")
def test_partial_starts_from_a_head_that_was_solved_and_full_from_a_random_one(discs):
    images, labels = discs
    still = {**SMALL, "epochs": 1, "learning_rate": 0.0}
    frozen = FineTunedClassifier(**SMALL, regularisation=START_REGULARISATION).fit(images, labels)
    partial = FineTunedClassifier(strategy="partial", cut="stage7", **still).fit(images, labels)
    assert torch.equal(partial.head_[-1].weight, frozen.head_[-1].weight)
    full = FineTunedClassifier(strategy="full", **still).fit(images, labels)
    assert torch.equal(full.head_[-1].weight, full.make_head(1280, 3)[-1].weight)
    layered = FineTunedClassifier(strategy="partial", cut="stage7", extra_layers=(4,), **still)
    layered.fit(images, labels)
    assert torch.equal(layered.head_[-1].weight, layered.make_head(1280, 3)[-1].weight)


@pytest.mark.parametrize(
    ("images", "epochs", "batch", "expected"),
    [
        (42, 10, 16, (30, 420)),
        (21, 7, 8, (36, 252)),
        (16, 12, 16, (30, 480)),
        (42, 7, 8, (35, 294)),
    ],
)
def test_few_images_are_looked_at_more_often(images, epochs, batch, expected):
    batches = draw_batches(images, 8, Recipe(epochs, batch, 1e-3, 0.0, 0.0), seed=0)
    assert (len(batches), sum(len(rows) for rows, _ in batches)) == expected


def test_the_weights_of_the_last_steps_are_averaged(monkeypatch):
    """Each step's weights are noted; training is the same whether they are averaged or not."""
    features = torch.randn(50, 1, 5, generator=torch.Generator().manual_seed(0))
    labels = np.arange(50) % 2
    recipe = Recipe(4, 10, 0.1, 0.01, 0.0)
    batches = draw_batches(50, 1, recipe, seed=0)
    noted = []

    class Noting(torch.optim.AdamW):
        def step(self, *arguments):
            super().step(*arguments)
            noted.append(
                [p.detach().clone() for group in self.param_groups for p in group["params"]]
            )

    monkeypatch.setattr(torch.optim, "AdamW", Noting)
    activations = StoredActivations(tuple(features))
    ends = {}
    for averaged in (0.0, 0.5):
        torch.manual_seed(0)
        suffix, head = nn.Identity(), build_head(5, 2, (), dropout=0.1)
        noted.clear()
        train(suffix, head, activations, labels, batches, replace(recipe, averaged=averaged), 0)
        ends[averaged] = [parameter.detach() for parameter in head.parameters()]
    assert len(noted) == len(batches) == 30
    for last, average, steps in zip(ends[0.0], ends[0.5], zip(*noted, strict=True), strict=True):
        assert torch.equal(last, steps[-1])
        torch.testing.assert_close(average, torch.stack(steps[15:]).mean(dim=0))


def test_one_class_is_refused(discs):
    with pytest.raises(CohortError, match="two classes"):
        FineTunedClassifier().fit(discs[0], np.zeros(18))


def test_as_many_labels_as_images_are_asked_for(discs):
    with pytest.raises(CohortError, match="18 images were given with 3 labels"):
        FineTunedClassifier().fit(discs[0], [0, 1, 2])


# Baselines


def test_the_majority_baseline_knows_only_frequencies():
    classifier = make_majority_classifier().fit(np.zeros((4, 1)), [0, 0, 0, 1])
    np.testing.assert_allclose(classifier.predict_proba(np.zeros((1, 1))), [[0.75, 0.25]])


def test_the_histogram_baseline_sees_brightness_and_not_place():
    random = np.random.default_rng(0)
    image = random.random((20, 20)).astype(np.float32)
    shuffled = random.permutation(image.ravel()).reshape(20, 20)
    np.testing.assert_allclose(compute_histograms([image]), compute_histograms([shuffled]))
    images = [np.clip(random.normal(0.2 + 0.5 * (i % 2), 0.05, (20, 20)), 0, 1) for i in range(20)]
    histograms = compute_histograms([image.astype(np.float32) for image in images])
    classifier = make_histogram_classifier().fit(histograms, np.arange(20) % 2)
    assert (classifier.predict(histograms) == np.arange(20) % 2).all()

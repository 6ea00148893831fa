"""What docs/benchmarks.md rests on: fair draws, watched processes, and one table of one machine."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.speed.draws import COUNTS, draw_images
from benchmarks.speed.processes import run_watched
from benchmarks.speed.records import append_record, has_record, read_records
from benchmarks.speed.run import COMPETITORS, run, score
from benchmarks.speed.study import read_scores, record_study
from benchmarks.speed.table import BEGIN, END, lay_out_table, put_into_page
from PIL import Image


@pytest.fixture
def manifest(tmp_path):
    """Thirty small images a class in each of two folds."""
    random = np.random.default_rng(0)
    rows = []
    for fold in (1, 2):
        for label in COUNTS:
            for number in range(30):
                name = f"{label}-{fold}-{number:02d}.png"
                Image.fromarray(random.integers(0, 255, (64, 64), dtype=np.uint8)).save(
                    tmp_path / name
                )
                rows.append({"image": name, "label": label, "fold": fold})
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def folds_of(files, manifest):
    table = pd.read_csv(manifest).set_index("image")["fold"]
    return set(table[[path.name for path in files.paths]])


def test_a_draw_has_the_flagships_class_sizes_and_is_tested_on_other_patients(manifest):
    draw = draw_images(manifest, 0)
    labels, counts = np.unique(draw.train.labels, return_counts=True)
    assert dict(zip(labels, counts, strict=True)) == COUNTS
    assert folds_of(draw.train, manifest) == {1}
    assert folds_of(draw.test, manifest) == {2}


def test_the_same_number_gives_the_same_draw_and_another_gives_another(manifest):
    first, again, other = (draw_images(manifest, number) for number in (3, 3, 4))
    assert first.train.paths == again.train.paths
    assert (first.folds == again.folds).all()
    assert first.train.paths != other.train.paths
    assert first.test.paths == other.test.paths


def test_every_image_is_predicted_once_and_never_by_who_saw_it(manifest):
    draw = draw_images(manifest, 0)
    tested = np.concatenate([test for _, test in draw.splits()])
    assert sorted(tested) == list(range(53))
    for train, test in draw.splits():
        assert not set(train) & set(test)
        assert set(draw.train.labels[test]) == set(COUNTS)


def test_copies_keep_order_and_class(manifest, tmp_path):
    draw = draw_images(manifest, 0)
    copies = draw.train.copy_to(tmp_path / "copies")
    assert [path.name for path in copies.paths] == [path.name for path in draw.train.paths]
    assert [path.parent.name for path in copies.paths] == list(draw.train.labels)
    assert draw.train.targets.tolist() == sorted(draw.train.targets.tolist())


def test_a_cohort_has_the_rows_of_its_draw_in_the_same_order(manifest, tmp_path):
    from benchmarks.speed.meninx_models import open_cohort

    copies = draw_images(manifest, 0).train.copy_to(tmp_path / "copies")
    cohort = open_cohort(copies)
    assert (cohort.labels == copies.targets).all()


def test_a_score_does_not_mind_single_precision():
    probabilities = np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    scores = score(np.array([0, 1, 1]), probabilities)
    assert scores["balanced_accuracy"] == pytest.approx(0.75)
    assert scores["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.3]).mean(), rel=1e-6)


def test_records_are_found_again(tmp_path):
    file = tmp_path / "records.jsonl"
    append_record(file, {"kind": "draw", "draw": 0, "what": "fastai"})
    append_record(file, {"kind": "draw", "draw": 1, "what": "fastai"})
    assert [record["draw"] for record in read_records(file)] == [0, 1]
    assert has_record(file, kind="draw", draw=1)
    assert not has_record(file, kind="draw", draw=2)


@pytest.fixture
def measured(monkeypatch):
    """Whom a run measured, in its order; nobody is."""
    calls = []

    def measure(manifest, number, name, is_trial, work):
        calls.append((number, name))
        # Once, as where somebody stops it.
        if calls.count((1, "pytorch")) == 1 == number and name == "pytorch":
            raise SystemExit("it was stopped")
        work.mkdir(parents=True)
        return {"seconds": 1.0}

    monkeypatch.setattr("benchmarks.speed.run.measure", measure)
    return calls


def test_a_run_goes_on_where_it_stopped_and_measures_nothing_twice(measured, manifest, tmp_path):
    out, names = tmp_path / "records.jsonl", ["pytorch", "meninx_frozen", "meninx_study"]
    with pytest.raises(SystemExit, match="it was stopped"):
        run(manifest, 3, names, out, is_trial=False)
    for _ in range(2):
        run(manifest, 3, names, out, is_trial=False)
    wanted = {(number, name) for number in range(3) for name in names}
    assert set(measured) == wanted
    assert len(measured) == len(wanted) + 1 and len(read_records(out)) == len(wanted)


def test_another_one_is_the_first_in_each_draw(measured, manifest, tmp_path):
    names = ["meninx_full", "meninx_frozen", "meninx_study"]
    run(manifest, 3, names, tmp_path / "records.jsonl", is_trial=False)
    assert {name for _, name in measured[::3]} == set(names)


def test_who_is_not_installed_is_left_out_and_who_is_not_known_is_refused(
    measured, manifest, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("benchmarks.speed.run.find_spec", lambda name: None)
    run(manifest, 1, None, tmp_path / "records.jsonl", is_trial=False)
    assert "fastai is left out" in capsys.readouterr().out
    assert [name for _, name in measured] == [name for name in COMPETITORS if name != "fastai"]
    with pytest.raises(SystemExit, match="no such competitor: keras"):
        run(manifest, 1, ["keras"], tmp_path / "records.jsonl", is_trial=False)


# Seconds: on a machine with many processes a look is slow, and the next one comes later.
LONG_ENOUGH = 3


def test_memory_of_descendants_counts():
    child = f"import time; held = bytearray(80_000_000); time.sleep({LONG_ENOUGH})"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    watched = run_watched([sys.executable, "-c", parent], {})
    assert 80e6 < watched.peak_bytes < 160e6
    assert watched.seconds > 1


def test_a_competitor_that_fails_is_not_passed_over():
    with pytest.raises(SystemExit, match="no such thing"):
        run_watched([sys.executable, "-c", "raise SystemExit('no such thing')"], {})


def write_run(folder, column):
    folder.mkdir(parents=True)
    summary = {"chosen": "b", "headline": {"balanced_accuracy": 0.9}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "scores.csv").write_text(f"{column},log_loss\na,0.5\nb,0.25\n")


@pytest.mark.parametrize("column", ["model", "model"])
def test_a_run_folder_is_read_whatever_its_models_are_called(column, tmp_path):
    write_run(tmp_path / "run", column)
    expected = {"chosen": "b", "balanced_accuracy": 0.9, "log_loss": 0.25}
    assert read_scores(tmp_path / "run") == expected


def test_the_study_of_whichever_meninx_is_on_the_path_is_recorded(monkeypatch, tmp_path):
    write_run(tmp_path / "written", "model")
    package = tmp_path / "other" / "meninx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import shutil, sys\n"
        "assert sys.argv[1:3] == ['study', 'cohort/cemri53']\n"
        f"shutil.copytree({str(tmp_path / 'written')!r}, sys.argv[4])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    out = tmp_path / "records.jsonl"
    record_study(Path("cohort/cemri53"), "before", 0, out, is_trial=False)
    (record,) = read_records(out)
    assert (record["what"], record["on"], record["chosen"]) == ("before", "cemri53", "b")
    assert record["seconds"] > 0 and record["commit"]


ORIGIN = {
    "date": "2026-01-01T00:00+00:00",
    "commit": "abc",
    "load": 0.1,
    "machine": "abacus",
    "software": {"torch": "2"},
    "is_trial": False,
    "peak_bytes": 1.2e9,
    "balanced_accuracy": 0.8,
    "log_loss": 0.5,
}


def make_draw_record(draw, name, **changes):
    return {**ORIGIN, "kind": "draw", "draw": draw, "what": name, "seconds": 10.0 + draw, **changes}


def make_study_record(label, **changes):
    return {**ORIGIN, "kind": "study", "what": label, "on": "phantom", "seconds": 90.0, **changes}


@pytest.fixture
def lay_out(tmp_path):
    def lay_out_records(records):
        file = tmp_path / "records.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        return lay_out_table(file)

    return lay_out_records


def line_with(page, text):
    return next(line for line in page.splitlines() if text in line)


def test_the_table_has_time_memory_and_scores_of_each(lay_out):
    records = [make_draw_record(draw, name) for draw in range(3) for name in COMPETITORS]
    records[0] |= {"peak_bytes": 4.5e9, "balanced_accuracy": 0.5}
    table = lay_out([*records, make_study_record("before", commit="old", seconds=120.0)])
    assert (
        "| draws of 53 images | 3 | 11.0 (10.0 to 12.0) | 4.50 | 0.700 | 0.500 | abc |"
        in line_with(table, "(a) fastai")
    )
    assert "| phantom | 1 | 120.0 (120.0 to 120.0) | 1.20 " in line_with(table, "before")
    assert "| old |" in line_with(table, "before")
    assert "Measured 2026-01-01 on abacus; torch 2" in table


def test_means_are_of_the_draws_that_everybody_has_finished(lay_out):
    records = [make_draw_record(draw, "pytorch") for draw in range(3)]
    records += [make_draw_record(draw, "meninx_full") for draw in range(2)]
    assert "| 2 | 10.5 (10.0 to 11.0) |" in line_with(lay_out(records), "(b)")


def test_figures_of_two_machines_or_versions_are_refused_and_trials_do_not_count(lay_out):
    first = make_draw_record(0, "pytorch")
    for other in ({"machine": "slide rule"}, {"software": {"torch": "3"}}):
        with pytest.raises(SystemExit, match="several machines or versions"):
            lay_out([first, make_study_record("after", **other)])
    # Who has one library more has the same versions of all others.
    lay_out([first, make_study_record("after", software={"torch": "2", "fastai": "2"})])
    with pytest.raises(SystemExit, match="nothing was measured"):
        lay_out([{**first, "is_trial": True}])


def test_the_table_takes_its_place_on_the_page_and_leaves_the_rest(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    put_into_page("new", page)
    put_into_page("newer", page)
    assert page.read_text() == f"above\n{BEGIN}\nnewer\n{END}\nbelow\n"
    page.write_text("no place")
    with pytest.raises(SystemExit, match="no place for the table"):
        put_into_page("new", page)

"""What docs/benchmarks.md rests on: fair draws, paired figures, and a page that says no."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.speed.compete import COMPETITORS
from benchmarks.speed.draws import COUNTS, draw_images
from benchmarks.speed.limit import count_macs
from benchmarks.speed.meninx_study import WHOLE
from benchmarks.speed.pairing import compare_paired, fit_line
from benchmarks.speed.processes import run_watched
from benchmarks.speed.records import append_record, has_record, read_records
from benchmarks.speed.run import find_work, order_competitors, run_studies, score
from benchmarks.speed.scaling import write_images
from benchmarks.speed.scoring import list_unscored, score_all
from benchmarks.speed.write_document import TITLES, write_document
from meninx.finetune.convolution import FastConvolution
from PIL import Image
from scipy import stats

from tests.conftest import NEEDS_BFLOAT16


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
    from benchmarks.speed.meninx_cells import open_cohort

    copies = draw_images(manifest, 0).train.copy_to(tmp_path / "copies")
    cohort = open_cohort(copies)
    assert (cohort.labels == copies.targets).all()


def test_each_competitor_is_first_in_some_draw():
    orders = [order_competitors(draw) for draw in range(len(COMPETITORS))]
    assert {order[0] for order in orders} == set(COMPETITORS)
    assert all(set(order) == set(COMPETITORS) for order in orders)


def test_a_score_does_not_mind_single_precision():
    probabilities = np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    scores = score(np.array([0, 1, 1]), probabilities)
    assert scores["balanced_accuracy"] == pytest.approx(0.75)
    assert scores["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.3]).mean(), rel=1e-6)


def test_records_are_found_again(tmp_path):
    file = tmp_path / "records.jsonl"
    append_record(file, {"kind": "draw", "draw": 0, "competitor": "fastai"})
    append_record(file, {"kind": "draw", "draw": 1, "competitor": "fastai"})
    assert [record["draw"] for record in read_records(file)] == [0, 1]
    assert has_record(file, kind="draw", draw=1)
    assert not has_record(file, kind="draw", draw=2)


def test_whoever_was_timed_is_scored_once_and_what_it_left_is_kept_until_then(
    monkeypatch, tmp_path
):
    out = tmp_path / "records.jsonl"
    cases = [(0, "fastai"), (0, "meninx_study"), (1, "fastai")]
    for case in cases:
        append_record(out, make_record(*case))
        find_work(out, "draw", *case).mkdir(parents=True)
    append_record(out, make_score(1, "fastai"))
    assert list_unscored(out, is_trial=False) == cases[:2]
    assert list_unscored(out, is_trial=True) == []

    def score_or_fail(manifest, out, number, name, is_trial):
        if name == "meninx_study" and not is_mended:
            raise SystemExit("it failed")
        return make_score(number, name)

    monkeypatch.setattr("benchmarks.speed.scoring.score_one", score_or_fail)
    is_mended = False
    with pytest.raises(SystemExit, match="it failed"):
        score_all(tmp_path, out, is_trial=False)
    assert find_work(out, "draw", 0, "meninx_study").is_dir()
    is_mended = True
    score_all(tmp_path, out, is_trial=False)
    assert list_unscored(out, is_trial=False) == []
    assert sum(record["kind"] == "score" for record in read_records(out)) == 3
    assert not find_work(out, "draw", 0, "meninx_study").exists()


def test_a_study_is_run_once_alone_and_leaves_the_files_of_its_draw(monkeypatch, tmp_path):
    def measure(manifest, number, name, is_trial, work):
        work.mkdir(parents=True)
        return {"seconds": 500.0 + number}

    monkeypatch.setattr("benchmarks.speed.run.measure", measure)
    out = tmp_path / "records.jsonl"
    of_draw = find_work(out, "draw", 0, "meninx_study")
    of_draw.mkdir(parents=True)
    for _ in range(2):
        run_studies(tmp_path, 2, out, is_trial=False)
    found = [(one["kind"], one["draw"], one["seconds"]) for one in read_records(out)]
    assert found == [("study", 0, 500.0), ("study", 1, 501.0)]
    assert of_draw.is_dir() and not find_work(out, "study", 0, "meninx_study").exists()


def test_a_paired_interval_is_that_of_the_t_test():
    random = np.random.default_rng(0)
    first, second = random.normal(0.9, 0.1, 6), random.normal(0.6, 0.1, 6)
    ours = compare_paired(first, second)
    theirs = stats.ttest_rel(first, second).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.sign == 1
    assert compare_paired(second, first).sign == -1
    assert compare_paired([1, 2, 3], [2, 2, 2]).sign == 0


def test_one_draw_says_nothing():
    assert compare_paired([0.9], [0.1]).sign == 0


def test_growth_is_told_from_a_straight_line():
    images = np.array([53, 300, 1000, 3000])
    straight = fit_line(images, 4 + 0.02 * images)
    assert (straight.fixed, straight.each) == pytest.approx((4, 0.02))
    assert straight.largest_deviation < 1e-9
    square = fit_line(images, 1e-4 * images**2.0)
    assert square.exponent == pytest.approx(2)
    assert square.largest_deviation > 0.5


# Seconds: on a busy machine the next look comes up to two seconds after a slow one.
LONG_ENOUGH = 3


def test_memory_of_descendants_counts():
    child = f"import time; held = bytearray(80_000_000); time.sleep({LONG_ENOUGH})"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    watched = run_watched([sys.executable, "-c", parent], {})
    assert 80e6 < watched.peak_bytes < 160e6
    assert 1e6 < watched.own_bytes < 60e6
    assert watched.seconds > 1


def test_pages_of_files_are_told_from_the_rest_of_memory(tmp_path):
    file = tmp_path / "read"
    file.write_bytes(bytes(80_000_000))
    reader = (
        f"import mmap, time; f = open({str(file)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); "
        f"sum(m[::4096]); time.sleep({LONG_ENOUGH})"
    )
    watched = run_watched([sys.executable, "-c", reader], {})
    assert 75e6 < watched.file_bytes < watched.peak_bytes < 160e6


def test_a_competitor_that_fails_is_not_passed_over():
    with pytest.raises(SystemExit, match="no such thing"):
        run_watched([sys.executable, "-c", "raise SystemExit('no such thing')"], {})


def test_depthwise_work_is_counted_as_such_backwards_too():
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    inputs = torch.randn(2, 8, 5, 5, requires_grad=True)
    once = 2 * 8 * 5 * 5 * 9
    assert count_macs(lambda: layer(inputs)) == once
    assert count_macs(lambda: layer(inputs).sum().backward()) == 3 * once
    assert count_macs(lambda: layer(inputs.detach()).sum().backward()) == 2 * once


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=NEEDS_BFLOAT16)]
)
@pytest.mark.parametrize("largest", [None, 6.0])
@pytest.mark.parametrize(("side", "groups"), [(1, 1), (3, 1), (3, 8)])
def test_work_of_the_engines_own_convolutions_is_counted(dtype, largest, side, groups):
    plain = torch.nn.Conv2d(8, 8, side, padding=side // 2, groups=groups).to(dtype)
    layer = FastConvolution(plain, largest)
    inputs = torch.randn(2, 8, 5, 5, dtype=dtype)
    once = 2 * 8 * 5 * 5 * 8 // groups * side**2
    assert count_macs(lambda: layer(inputs)) == once


def test_more_images_than_there_are_are_all_different(manifest, tmp_path):
    write_images(manifest, 400, tmp_path / "many")
    contents = {path.read_bytes() for path in (tmp_path / "many").rglob("*.jpg")}
    assert len(contents) == 400


SECONDS = dict(zip(TITLES, [126, 123, 277, 5, 5, 6, 150, 200], strict=True))


PHASES = {
    "pytorch": {"head": 80.0, "last_stage": 60.0, "predict": 2.0},
    "meninx_partial": {"read": 1.0, "precision": 1.5, "activations": 2.0, "cells": 3.0},
}


def make_record(draw, name, **changes):
    return {
        "kind": "draw",
        "draw": draw,
        "competitor": name,
        "is_trial": False,
        "date": "2026-01-01T00:00+00:00",
        "commit": "abc",
        "load": 0.1,
        "machine": {
            "processor": "abacus",
            "cores": 2,
            "gibibytes": 8,
            "capabilities": ["avx512_bf16"],
            "system": "Linux",
            "versions": {"torch": "2"},
        },
        "seconds": SECONDS[name] + draw,
        "phases": PHASES.get(name, {}),
        "facts": {"chosen": "lite0-partial-stage4"},
        "peak_bytes": 1.2e9,
        "out_of_fold_balanced_accuracy": 0.8,
    } | changes


def make_score(draw, name, **changes):
    about = {name: make_record(0, "fastai")[name] for name in ("date", "commit", "load", "machine")}
    return {
        **about,
        "kind": "score",
        "draw": draw,
        "competitor": name,
        "is_trial": False,
        "balanced_accuracy": 0.8 + 0.01 * draw + 0.05 * (name == "meninx_study"),
        "log_loss": 0.5 - 0.1 * (name == "meninx_study"),
        "tested": 400,
    } | changes


@pytest.fixture
def write(tmp_path):
    """Write the page from records and give its text."""

    def write_page(records):
        from pathlib import Path

        file, page = tmp_path / "records.jsonl", tmp_path / "page.md"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        write_document(file, Path(__file__).parents[1] / "benchmarks", page)
        return page.read_text()

    return write_page


@pytest.fixture
def records():
    cases = [(draw, name) for draw in range(3) for name in TITLES]
    return [make(*case) for make in (make_record, make_score) for case in cases]


def line_with(page, text):
    return next(line for line in page.splitlines() if text in line)


def test_the_page_tells_ratios_within_draws(write, records):
    line = line_with(write(records), "frozen cell faster than (a)")
    assert "21.2 (18.3 to 25.2) ×" in line
    assert "yes; in 2 of 3 draws" in line


def test_the_last_stage_is_compared_with_its_training_alone_and_with_the_whole_cell(write, records):
    page = write(records)
    assert "12.0 (12.0 to 12.0) ×" in line_with(page, "| partial cell faster than (b)'s last stage")
    whole = [60 / (SECONDS["meninx_partial"] + draw) for draw in (1, 2, 0)]
    expected = "{:.1f} ({:.1f} to {:.1f}) ×".format(*whole)
    assert expected in line_with(page, "the same, with opening the folder")
    # Where activations are computed among the fits, both are one phase.
    together = [
        record | {"phases": {"read": 1.0, "precision": 1.5, "cells": 5.0}}
        if record.get("phases", {}).get("activations") and record["draw"]
        else record
        for record in records
    ]
    assert write(together) == page


def test_the_page_says_that_a_promise_is_not_held(write, records):
    slow = [
        record | {"seconds": 300.0} if record["competitor"] == "meninx_study" else record
        for record in records
    ]
    assert "| yes" in line_with(write(records), "whole study")
    assert "**no**; in 0 of 3" in line_with(write(slow), "whole study")


def test_the_page_says_whom_the_study_does_not_beat(write, records):
    better = [
        record | {"balanced_accuracy": 0.99}
        if (record["kind"], record["competitor"]) == ("score", "fastai")
        else record
        for record in records
    ]
    row = next(line for line in write(better).splitlines() if line.startswith("| (a) fastai | -"))
    assert "accuracy **worse** on average (3 of 3 draws)" in row
    assert "log loss better on average" in row


def test_a_draw_that_is_not_complete_does_not_count(write, records):
    assert "## 2 draws" in write(records[1:])
    assert "## 2 draws" in write(records[:-1])


def test_processors_of_one_name_that_can_do_different_things_are_two_machines(write, records):
    able = records[0]["machine"] | {"capabilities": ["amx_bf16", "avx512_bf16"]}
    of_both = [record | {"machine": able} if record["draw"] == 2 else record for record in records]
    page = write(of_both)
    assert "- **B**: abacus" in page
    whole = [line for line in page.splitlines() if "| whole study in no more time" in line]
    assert [line.split("|")[3].strip() for line in whole] == ["A", "B"]


def test_the_process_that_waits_for_the_study_is_not_its_memory(write, records):
    noted = [record | {"peak_own_bytes": 0.15e9} for record in records]
    page = write(noted)
    assert "| 1.05 |" in line_with(page, "Meninx, the default study")
    assert "| 1.20 |" in line_with(page, "(b) plain PyTorch")


@pytest.mark.parametrize("kind", ["draw", "study"])
def test_the_page_says_which_predictions_of_seconds_were_off(write, records, kind):
    for draw in range(3):
        seconds = {
            "well": [2.0, 2.5],
            "ill": [100.0, 70.0 + 35 * draw],
            "short": [0.3, 0.16 + 0.5 * draw],
        }
        facts = {"chosen": "lite0-partial-stage4", "seconds": seconds}
        records.append(make_record(draw, "meninx_study", kind="study"))
        records = [
            one | {"facts": facts}
            if (one["kind"], one["draw"], one["competitor"]) == (kind, draw, "meninx_study")
            else one
            for one in records
        ]
    page = write(records)
    assert "| -20 % (-20 to -20) | in 3 of 3 studies |" in line_with(page, "| well |")
    # 100 is 43 % more than 70, and 29 % less than 140.
    assert "| 105.00 (70.00 to 140.00) | -5 % (-29 to +43)" in line_with(page, "| ill |")
    assert "in 2 of 3 studies" in line_with(page, "| ill |")
    # Less than a second is all that is said of such a cell: 1.16 s are more.
    assert "in 2 of 3 studies" in line_with(page, "| short |")
    # Of the nine, two are of less than a second; of the others one ill and one short one were off.
    assert "| A, abc | 3 | 5 of 7 |" in page


def test_what_was_foretold_at_two_commits_is_told_apart(write, records):
    for day, commit, taken in (
        (1, "bbbbbbbbbb-dirty", 125.0),
        (2, "aaaaaaaaaa", 50.0),
        (3, "bbbbbbbbbb", 100.0),
    ):
        study = make_record(0, "meninx_study", kind="study") | {"date": f"2026-01-0{day}"}
        seconds = {"cell": [100.0, taken], WHOLE: [200.0, 160.0]}
        facts = {"chosen": "lite0-partial-stage4", "seconds": seconds}
        records.append(study | {"commit": commit, "facts": facts})
    page = write(records)
    # Cell by cell only the last one.
    assert "| +0 % (+0 to +0) | in 1 of 1 studies |" in line_with(page, "| A, bbbbbbb | cell |")
    assert "| A, aaaaaaa | cell |" not in page
    whole = "+25 % (+25 to +25)"
    assert f"| A, aaaaaaa | 1 | 0 of 1 | +100 % (+100 to +100) | {whole} |" in page
    assert f"| A, bbbbbbb | 1 | 1 of 1 | +0 % (+0 to +0) | {whole} |" in page
    # What was measured with changes that are in no commit is no commit's.
    assert f"| A, bbbbbbb-dirty | 1 | 1 of 1 | -20 % (-20 to -20) | {whole} |" in page


def test_trials_and_figures_of_two_machines_are_refused(write, records):
    with pytest.raises(SystemExit, match="no draw was measured"):
        write([record | {"is_trial": True} for record in records])
    other = records[0] | {"machine": {**records[0]["machine"], "processor": "slide rule"}}
    with pytest.raises(SystemExit, match="draw 0 is of several machines or commits"):
        write([other, *records[1:]])
    with pytest.raises(SystemExit, match="draw 0 is of several machines or commits"):
        write([records[0] | {"commit": "later"}, *records[1:]])
    with pytest.raises(SystemExit, match="draw 2 is of several machines or commits"):
        write([*records[:-1], records[-1] | {"commit": "later"}])
    newer = records[0] | {"machine": {**records[0]["machine"], "versions": {"torch": "3"}}}
    with pytest.raises(SystemExit, match="several versions of software"):
        write([newer, *records[1:]])


def test_draws_of_another_machine_are_told_apart(write, records):
    other = {**records[0]["machine"], "processor": "slide rule"}
    moved = [
        record | {"machine": other, "date": "2026-01-02", "seconds": 10 * record.get("seconds", 0)}
        if record["draw"] == 2
        else record
        for record in records
    ]
    page = write(moved)
    assert "**A**: abacus" in line_with(page, "abacus")
    assert "**B**: slide rule" in line_with(page, "slide rule")
    assert "measured here: draw 2; 2026-01-02" in page
    studies = [record | {"kind": "study"} for record in moved if "study" in record["competitor"]]
    alone = [record | {"machine": {**other, "processor": "abax"}} for record in studies]
    assert "measured here: studies alone; 2026-01-01" in write([*moved, *alone])
    line = line_with(page, "Meninx, the default study")
    assert "| 200.5 (200.0 to 201.0) | 2020.0 (2020.0 to 2020.0) |" in line
    assert "(a) | ≥ 20 × | A | 23.2 (21.2 to 25.2) × | yes; in 2 of 2 draws |" in page
    assert "(a) | ≥ 20 × | B | 18.3 (18.3 to 18.3) × | **no**; in 0 of 1 draws |" in page


def test_a_draw_of_two_machines_is_judged_on_each_and_counts_once(write, records):
    machine = {**records[0]["machine"], "processor": "slide rule"}
    elsewhere = {"machine": machine, "date": "2026-01-02", "commit": "later"}
    changes = {"draw": {"seconds": 100.0}, "score": {"balanced_accuracy": 0.7}}
    again = [
        record | elsewhere | changes[record["kind"]] for record in records if record["draw"] == 0
    ]
    page = write([*records, *again])
    assert "## 3 draws" in page
    assert "(a) | ≥ 20 × | A | 21.2 (18.3 to 25.2) × | yes; in 2 of 3 draws |" in page
    assert "(a) | ≥ 20 × | B | 1.0 (1.0 to 1.0) × | **no**; in 0 of 1 draws |" in page
    # Draw 0 had 0.80 and 0.70, the others 0.81 and 0.82.
    assert "| 79.3 |" in line_with(page, "(a) fastai | 127.0")
    assert "(3 of 3 draws)" in line_with(page, "| (a) fastai | +")
    with pytest.raises(SystemExit, match=r"draw 0 is of several machines .* on B"):
        write([*records, *again[1:]])


def test_scaling_and_limit_are_shown(write, records):
    about = records[0]
    scale = [
        about
        | {"kind": "scale", "cell": "frozen", "images": images, "seconds": 3 + images / 50}
        | {"peak_bytes": 1e6 * (800 + images)}
        for images in (53, 300, 1000, 3000)
    ]
    limit = about | {
        "kind": "limit",
        "best": {"float32": {"matrix product": 50e9}, "bfloat16": {"convolution 3×3": 100e9}},
        "engine": {"stage4": {"macs_per_second": 25e9}},
    }
    page = write([*records, *scale, limit])
    assert "| frozen | 3,000 | 63.0 | 0.021 | 3.80 |" in page
    assert "**no**" in line_with(page, "peak memory at 3,000 images")
    assert "3.0 s + 20 ms an image" in page
    assert "| engine, training from stage4 | 25.0 | 25 % | 50 % |" in page

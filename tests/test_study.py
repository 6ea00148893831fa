"""The study: from a folder of images to a run folder, whole, repeatable, without names."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from meninx.backbones import Backbone
from meninx.cohort import Cohort
from meninx.errors import CohortError, StudyError
from meninx.evaluate import Predictions, split_by_patient
from meninx.finetune import (
    FineTunedClassifier,
    FitTimes,
    Strategy,
    bring_into_fast_form,
    load_backbone,
)
from meninx.matrix import Advice, SizeSimilarityMatrix
from meninx.report import render
from meninx.study import (
    Plan,
    Study,
    compare_runs,
    read_duration,
    read_prevalence,
    write_duration,
)
from meninx.study.costs import Costs, fit_into, price
from meninx.study.crossvalidation import CrossValidation
from meninx.study.fold_models import FoldModels
from meninx.study.further import run_learning_curve, run_nested
from meninx.study.measuring import GROWTH
from meninx.study.plan import PARTIAL_SETTINGS
from meninx.study.run_folder import RunFolder
from meninx.study.tasks import (
    Fill,
    Piece,
    Task,
    TaskResult,
    divide,
    fit_classifier,
    fit_on_all,
    list_fills,
    make_classifier,
    run_tasks,
)
from meninx.study.verdict import CellResult
from meninx.study.workers import _choose_start, run_in_workers
from tests.conftest import made_brief, write_cohort

LITE0, LITE1 = "tf_efficientnet_lite0", "tf_efficientnet_lite1"
SCORE_COLUMNS = (
    "cell,backbone,strategy,cut,role,balanced_accuracy,balanced_accuracy_low,"
    "balanced_accuracy_high,macro_f1,auc,log_loss,seconds"
)
SECRET = "SITI-RAHAYU"


@pytest.fixture(scope="session")
def named_folder(tmp_path_factory):
    """A cohort whose file names hold a patient's name."""
    folder = write_cohort(tmp_path_factory.mktemp("named"), {"plain": 6, "striped": 6, "dotted": 6})
    for file in folder.glob("*/*.png"):
        file.rename(file.with_name(f"{SECRET}{file.parent.name}-{file.name}"))
    return folder


def run_study(folder, out, workers=2, **settings):
    cohort = Cohort.from_folder(folder, patient_pattern=rf"{SECRET}\w+-scan\d+")
    study = Study(
        cohort,
        backbones=(LITE0,),
        folds=2,
        repeats=2,
        **{"strategies": (Strategy.FROZEN, Strategy.PARTIAL), **settings},
    )
    with made_brief():
        study.run(out, workers=workers)
    return out


@pytest.fixture(scope="session")
def run(named_folder, tmp_path_factory):
    return run_study(named_folder, tmp_path_factory.mktemp("run") / "run")


def write_manifest(folder, header, rest_of_row):
    """List a folder of classes in a manifest; the n-th image gets what follows its label."""
    rows = [
        f"{file.relative_to(folder)},{file.parent.name},{rest_of_row(number)}"
        for number, file in enumerate(sorted(folder.glob("*/*.png")))
    ]
    (folder / "manifest.csv").write_text("\n".join([header, *rows]))


def name_partial_cell(run):
    """Name the partial cell; its cut is what the matrix advises for these images."""
    (cell,) = (run / "cells").glob("*-partial-*")
    return cell.name


def read_scores(run):
    return pd.read_csv(run / "scores.csv").drop(columns="seconds")


# The plan


def advise(strategy, trained_stages=0):
    cut = f"stage{8 - trained_stages}" if trained_stages else None
    return Advice(strategy, cut, trained_stages, (), 1.0, 1e-3, ("Because.",))


def test_the_plan_has_the_advice_its_neighbours_and_the_baselines():
    plan = Plan.make(advise("partial", 1), (LITE0, LITE1))
    assert {cell.name: cell.repeats for cell in plan.cells} == {
        "majority": 5,
        "histogram": 5,
        f"{LITE0}-frozen": 5,
        "tf_efficientnet_lite1-frozen": 5,
        f"{LITE0}-partial-stage7": 5,
        "tf_efficientnet_lite1-partial-stage7": 5,
        "ensemble": 5,
        f"{LITE0}-partial-stage6": 1,
        f"{LITE0}-scratch": 1,
    }


def test_repeats_that_are_asked_for_are_those_of_every_candidate():
    plan = Plan.make(advise("partial", 1), (LITE0, LITE1), repeats=4)
    repeats = {cell.name: cell.repeats for cell in plan.candidates}
    neighbour = repeats.pop(f"{LITE0}-partial-stage6")
    assert set(repeats.values()) == {4} and neighbour == 1


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        (advise("frozen"), {"frozen", "partial-stage7"}),
        (advise("full"), {"frozen", "full", "partial-stage6"}),
        (advise("partial", 2), {"frozen", "partial-stage6", "partial-stage7"}),
    ],
)
def test_every_advice_is_tried_beside_its_neighbours(advice, expected):
    plan = Plan.make(advice, (LITE0,))
    assert {cell.name.removeprefix(f"{LITE0}-") for cell in plan.candidates} == expected


def test_cells_are_trained_as_the_matrix_advises():
    advice = Advice("partial", "stage7", 1, (256,), 0.5, 2e-3, ("Because.",))
    cells = {
        cell.name.removeprefix(f"{LITE0}-"): cell for cell in Plan.make(advice, (LITE0,)).cells
    }
    advised = cells["partial-stage7"]
    precision = {"precision": "float32"}
    assert advised.settings == {
        "augmentation": 0.5,
        "extra_layers": [256],
        "learning_rate": 2e-3,
        "epochs": 10,
        "batch_size": 8,
        **precision,
    }
    assert cells["frozen"].settings == {"augmentation": 0.5, **precision}
    assert [name for name, cell in cells.items() if cell.is_advised] == ["partial-stage7"]
    # A head that can be solved needs fewer epochs.
    (linear,) = [cell for cell in Plan.make(advise("partial"), (LITE0,)).cells if cell.is_advised]
    assert linear.settings["epochs"] == 7


@pytest.mark.parametrize(
    ("images", "folds", "left_out"),
    [(None, 5, 0.4), (53, 5, 0.4), (45, 5, 0.4), (44, 5, 0.0), (38, 10, 0.0), (40, 10, 0.4)],
)
def test_blocks_are_left_out_of_steps_only_where_a_fold_has_images_enough(images, folds, left_out):
    plan = Plan.make(advise("partial", 2), (LITE0, LITE1), folds=folds, images=images)
    cells = [one for cell in plan.cells for one in (cell, *cell.members)]
    found = {
        cell.strategy: cell.settings.get("blocks_left_out") for cell in cells if not cell.members
    }
    assert found.pop("partial") == left_out
    assert set(found.values()) == {None}
    partial = [cell for cell in cells if cell.strategy == "partial"]
    assert {cell.settings["blocks_left_out"] for cell in partial} == {left_out} and len(partial) > 4
    assert make_classifier(partial[0], seed=0).recipe.left_out == left_out


def test_strategies_that_are_asked_for_replace_the_advice():
    plan = Plan.make(advise("partial", 1), (LITE0,), (Strategy.FULL, Strategy.SCRATCH))
    assert [cell.name for cell in plan.cells] == [
        "majority", "histogram", f"{LITE0}-full", f"{LITE0}-scratch",
    ]  # fmt: skip


def test_a_deeper_cut_trains_more():
    cells = {cell.cut: cell for cell in Plan.make(advise("partial", 2), (LITE0,)).candidates}
    trained = [cells[cut].trained_parameters for cut in (None, "stage7", "stage6")]
    assert trained == sorted(trained) and trained[0] == 0


# Costs


TIMES = FitTimes(
    activations=0.01,
    reading=0.001,
    start=0.1,
    training=0.002,
    prediction=0.01,
)
# Of linear heads the first, and another.
HEADS = 0.1, 0.002
A_HEAD = sum(HEADS)


@pytest.fixture
def priced(monkeypatch):
    """A plan of two backbones whose parts all take the same time."""
    give_times_to_measure(monkeypatch, _give_times)
    monkeypatch.setattr("meninx.study.measuring.count_arithmetic", lambda backbone, cut: 1.0)
    plan = Plan.make(advise("partial", 1), (LITE0, LITE1))
    return plan, Costs.measure(plan, images=np.arange(50), classes=3, workers=1)


def give_times_to_measure(monkeypatch, time_fits):
    monkeypatch.setattr("meninx.study.measuring.time_fits", time_fits)
    monkeypatch.setattr("meninx.study.measuring.time_heads", _give_heads)


def _give_times(groups, image, classes):
    return [[TIMES for _ in group] for group in groups]


def _give_heads(views, width, images, classes):
    return HEADS


def test_a_cell_costs_its_fits_and_its_predictions(priced):
    plan, costs = priced
    cells = {cell.name: cell for cell in price(plan, costs).cells}
    # 40 images in 5 batches, all of them in each epoch.
    once = 5 * (0.1 + A_HEAD + 0.001 * 50 + 0.002 * PARTIAL_SETTINGS["epochs"] * 40) + 50 * 0.01
    partial = cells[f"{LITE0}-partial-stage7"]
    assert partial.predicted_seconds == pytest.approx(5 * once, rel=0.02)
    # Features are read once, and 25 heads are solved.
    frozen = cells[f"{LITE0}-frozen"]
    assert frozen.predicted_seconds == pytest.approx(0.1 + 50 * 0.001 + 25 * 0.002)
    assert cells["majority"].predicted_seconds < cells["histogram"].predicted_seconds < 0.2
    members = sum(member.predicted_seconds for member in cells.values() if member.is_advised)
    assert cells["ensemble"].predicted_seconds == pytest.approx(members)


def test_a_study_costs_what_has_passed_its_cells_and_what_comes_after(priced):
    plan, costs = priced
    whole = price(plan, costs, spent=30.0).predicted_seconds
    assert whole == pytest.approx(30 + costs.predict_study(plan.cells), abs=0.1)


def test_nested_cross_validation_costs_every_candidate_once_more_in_each_fold(priced):
    plan, costs = priced
    # In each fold 40 images, of which 32 are trained on in each of five folds inside.
    looks = costs.classifiers[f"{LITE0}-partial-stage7"].count_looks(32)
    once = 5 * (0.1 + A_HEAD + 0.001 * 40 + 0.002 * looks) + 40 * 0.01
    frozen = 0.1 + 40 * 0.001 + 5 * 0.002
    nested = replace(costs, is_nested=True)
    assert costs.predict_nested(plan.candidates) == pytest.approx(
        5 * (3 * once + 2 * frozen), rel=0.02
    )
    more = nested.predict_study(plan.cells) - costs.predict_study(plan.cells)
    assert more == pytest.approx(costs.predict_nested(plan.candidates))


def test_a_learning_curve_costs_the_costliest_candidate_on_parts_of_the_patients(priced):
    plan, costs = priced
    # Parts of 40 images: 10, 16, 24 and 32.
    partial = costs.classifiers[f"{LITE0}-partial-stage7"]
    looks = sum(partial.count_looks(part) for part in (10, 16, 24, 32))
    member = 5 * (4 * (0.1 + A_HEAD) + 0.001 * 82 + 0.002 * looks + 40 * (0.001 + 0.01))
    curve = replace(costs, measures_learning_curve=True)
    more = curve.predict_study(plan.cells) - costs.predict_study(plan.cells)
    assert more == pytest.approx(2 * member, rel=0.02)


@pytest.mark.parametrize("wish", ["is_nested", "measures_learning_curve"])
def test_a_time_limit_counts_what_is_trained_after_the_cells(priced, wish):
    plan, costs = priced
    wished = replace(costs, **{wish: True})
    limit = costs.predict_study(plan.cells) + 1
    assert fit_into(plan, costs, limit).left_out == ()
    fitted = fit_into(plan, wished, limit)
    assert fitted.cells != plan.cells
    assert wished.predict_study(fitted.cells) <= limit


def test_a_study_whose_learning_curve_is_of_the_chosen_cell_is_not_foretold(
    disc_cohort, monkeypatch
):
    measured = SimpleNamespace(advice=advise("partial", 1))
    monkeypatch.setattr(SizeSimilarityMatrix, "measure", lambda *arguments: measured)
    monkeypatch.setattr("meninx.study.study.choose_precisions", lambda *arguments: {})
    give_times_to_measure(monkeypatch, _give_times)
    study = Study(disc_cohort, backbones=(LITE0,))
    curve = replace(study, measures_learning_curve=True)
    assert curve.plan(workers=1).predicted_seconds is None
    nested = replace(study, is_nested=True)
    once, again = (one.plan(workers=1).predicted_seconds for one in (study, nested))
    assert 0 < once < again


def test_cells_of_one_network_are_timed_together_while_every_worker_is_busy(monkeypatch):
    timed = []

    def give_times(groups, image, classes):
        timed.append([[one.strategy for one in group] for group in groups])
        seconds = float(len(timed))
        return [[replace(TIMES, activations=seconds) for _ in group] for group in groups]

    give_times_to_measure(monkeypatch, give_times)
    monkeypatch.setattr(
        "meninx.study.measuring.run_in_workers",
        lambda function, work, workers: [function(*one) for one in work],
    )
    plan = Plan.make(advise("partial", 1), (LITE0,))
    Costs.measure(plan, images=np.arange(50), classes=3, workers=2)
    pretrained, scratch = ["frozen", "partial", "partial"], ["scratch"]
    assert timed == [[pretrained], [scratch]]
    timed.clear()
    costs = Costs.measure(plan, images=np.arange(50), classes=3, workers=4)
    assert timed == [[pretrained]] * 2 + [[scratch]] * 2
    assert costs.times[f"{LITE0}-frozen"].activations == 1.5
    assert costs.times[f"{LITE0}-scratch"].activations == 3.5
    timed.clear()
    Costs.measure(plan, images=np.arange(50), classes=3, workers=5)
    # One each: nobody waits for a process that has two.
    assert timed == [[pretrained]] * 3 + [[scratch]] * 2
    timed.clear()
    # Each backbone is of a family of its own.
    monkeypatch.setattr(Backbone, "find_kinds_of_layers", lambda backbone: backbone.name)
    plan = Plan.make(advise("partial", 1), (LITE0, LITE1, "tf_efficientnet_lite2"))
    Costs.measure(plan, images=np.arange(50), classes=3, workers=2)
    assert timed == [[pretrained, scratch], [pretrained[:2], pretrained[:2]]]


def test_linear_heads_are_timed_once_for_backbones_that_give_as_many_features(monkeypatch):
    timed = []
    give_times_to_measure(monkeypatch, _give_times)
    monkeypatch.setattr(
        "meninx.study.measuring.time_heads", lambda *about: (timed.append(about), HEADS)[1]
    )
    plan = Plan.make(advise("partial", 1), (LITE0, LITE1))
    Costs.measure(plan, images=np.arange(50), classes=3, workers=1)
    assert timed == [(8, 1280, 50, 3)]
    timed.clear()
    features = {LITE0: 1280, LITE1: 640}
    monkeypatch.setattr(
        Backbone, "features", property(lambda backbone: features[backbone.name]), raising=False
    )
    Costs.measure(plan, images=np.arange(50), classes=3, workers=1)
    assert timed == [(8, 1280, 50, 3), (8, 640, 50, 3)]
    timed.clear()
    # Whoever trains everything solves none.
    plan = Plan.make(advise("partial", 1), (LITE0,), (Strategy.FULL,))
    assert "full" in {cell.strategy for cell in plan.cells}
    plan = replace(plan, cells=tuple(cell for cell in plan.cells if cell.strategy == "full"))
    Costs.measure(plan, images=np.arange(50), classes=3, workers=1)
    assert timed == []


def measure_costs(monkeypatch, paces, precisions=None):
    """Measure two backbones, the second with three times the arithmetic, four as a whole.

    Where the paces differ, by strategy and cut, so do steps. Return what was timed, and the times.
    """
    timed = []

    def give_times(groups, image, classes):
        timed.extend(f"{one.backbone}-{one.strategy}" for group in groups for one in group)
        return [[give_time(one) for one in group] for group in groups]

    def give_time(classifier):
        return replace(TIMES, training=paces.get((classifier.strategy, classifier.cut), 1.0))

    def count(backbone, cut):
        if cut == "head":
            return 0.0
        larger = 4.0 if cut == "stem" else 3.0
        return larger if backbone.name == LITE1 else 1.0

    give_times_to_measure(monkeypatch, give_times)
    monkeypatch.setattr("meninx.study.measuring.count_arithmetic", count)
    plan = Plan.make(advise("partial", 7), (LITE0, LITE1), precisions=precisions or {})
    return timed, Costs.measure(plan, images=np.arange(50), classes=3, workers=1).times


def test_of_networks_of_one_family_one_is_timed_and_arithmetic_tells_the_others(monkeypatch):
    timed, times = measure_costs(monkeypatch, {("partial", "stage1"): 5.0})
    own = ["frozen", "partial", "partial", "scratch"]
    assert timed == [f"{LITE0}-{strategy}" for strategy in own]
    here, there = (times[f"{name}-partial-stage1"] for name in (LITE0, LITE1))
    assert there == FitTimes(
        activations=pytest.approx(here.activations * 4**GROWTH),
        reading=here.reading,
        # The heads that they start from are of as many features.
        start=pytest.approx((here.start - A_HEAD) * 3**GROWTH + A_HEAD),
        training=pytest.approx(here.training * 3**GROWTH),
        prediction=pytest.approx(here.prediction * 3**GROWTH),
    )
    # Features of both are as wide, and so are their heads.
    here, there = (times[f"{name}-frozen"] for name in (LITE0, LITE1))
    assert there == replace(here, activations=pytest.approx(here.activations * 4**GROWTH))


def test_steps_that_cost_more_are_foretold_to_take_longer(monkeypatch):
    monkeypatch.setattr(
        "meninx.study.measuring.estimate_cost_of_steps",
        lambda backbone, cut: 1.5 if backbone.name == LITE1 and cut == "stage1" else 1.0,
    )
    _, times = measure_costs(monkeypatch, {("partial", "stage1"): 5.0})
    here, there = (times[f"{name}-partial-stage1"] for name in (LITE0, LITE1))
    assert there.training == pytest.approx(here.training * 1.5 * 3**GROWTH)


def test_networks_of_which_one_is_exact_are_both_timed(monkeypatch):
    timed, _ = measure_costs(monkeypatch, {}, {LITE0: "bfloat16-from-stem", LITE1: "float32"})
    assert f"{LITE1}-partial" in timed and f"{LITE1}-frozen" in timed
    timed, _ = measure_costs(
        monkeypatch, {}, {LITE0: "bfloat16-from-stem", LITE1: "bfloat16-from-stage2"}
    )
    assert not any(name.startswith(LITE1) for name in timed)


def test_like_cells_whose_steps_differ_by_chance_are_foretold_at_one_pace(monkeypatch):
    measured = {("partial", "stage1"): 1 / 1.1, ("partial", "stage2"): 1.1, ("scratch", None): 5.0}
    _, times = measure_costs(monkeypatch, measured)
    assert times[f"{LITE0}-partial-stage1"].training == pytest.approx(1)
    assert times[f"{LITE0}-partial-stage2"].training == pytest.approx(1)
    # Another strategy trains in another way, and nothing is like it here.
    assert times[f"{LITE0}-scratch"].training == pytest.approx(5)


def test_steps_that_are_really_slower_keep_their_pace(monkeypatch):
    _, times = measure_costs(monkeypatch, {("partial", "stage1"): 10.0})
    assert times[f"{LITE0}-partial-stage1"].training == pytest.approx(10, rel=0.05)
    assert times[f"{LITE0}-partial-stage2"].training == pytest.approx(1, rel=0.05)


def test_a_time_limit_keeps_the_most_informative_cells_first(priced):
    plan, costs = priced
    whole = costs.predict_study(plan.cells)
    assert fit_into(plan, costs, whole + 1).left_out == ()
    kept = [
        {cell.name for cell in fit_into(plan, costs, part * whole).cells}
        for part in (0.3, 0.5, 0.7, 0.9)
    ]
    assert all(fewer <= more for fewer, more in pairwise(kept))
    assert f"{LITE0}-frozen" in kept[0]


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_what_is_kept_is_predicted_to_fit_and_what_is_left_out_is_told(priced, part):
    plan, costs = priced
    limit = part * costs.predict_study(plan.cells)
    fitted = fit_into(plan, costs, limit)
    backbones = [cell for cell in fitted.cells if cell.backbone]
    assert costs.predict_study(fitted.cells) <= limit or len(backbones) == 1
    names = {cell.name for cell in fitted.cells} | {cell.cell for cell in fitted.left_out}
    assert names == {cell.name for cell in plan.cells}


def test_what_has_passed_of_a_time_limit_is_no_more_there(priced):
    plan, costs = priced
    whole = costs.predict_study(plan.cells)
    assert fit_into(plan, costs, whole + 51, spent=50).left_out == ()
    late = fit_into(plan, costs, whole, spent=0.5 * whole)
    assert late.cells == fit_into(plan, costs, 0.5 * whole).cells
    assert f"into {whole:.0f} s" in late.left_out[0].reason


def test_an_ensemble_is_not_kept_without_its_members(priced):
    plan, costs = priced
    for limit in range(15, 60, 3):
        kept = {cell.name: cell for cell in fit_into(plan, costs, float(limit)).cells}
        if "ensemble" in kept:
            assert {member.name for member in kept["ensemble"].members} <= kept.keys()


def test_a_resumed_study_takes_up_the_plan_that_it_had(priced):
    plan, costs = priced
    earlier = fit_into(plan, costs, 25.0)
    again = price(plan, costs).resume(json.loads(json.dumps(earlier.as_dict())))
    assert [(cell.name, cell.repeats) for cell in again.cells] == [
        (cell.name, cell.repeats) for cell in earlier.cells
    ]
    assert again.left_out == earlier.left_out
    # Part of the work is done.
    assert again.predicted_seconds is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5 h", 5400)])
def test_durations_are_read_as_people_write_them(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.16, "< 1 s"), (1.4, "1 s"), (99, "99 s"), (100, "2 min"), (491, "8 min"),
     (3590, "1 h 0 min"), (5400, "1 h 30 min")],
)  # fmt: skip
def test_durations_are_written_no_finer_than_they_are_known(seconds, text):
    assert write_duration(seconds) == text


@pytest.mark.parametrize("text", ["", "5", "m", "0s", "-1m", "5 days"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(StudyError, match="no duration"):
        read_duration(text)


def test_prevalences_are_read_and_have_to_add_up():
    assert read_prevalence("lm=0.1, normal=0.9") == {"lm": 0.1, "normal": 0.9}
    for wrong in ("lm=0.1", "lm", "lm=x,normal=1", "lm=-0.5,normal=1.5"):
        with pytest.raises(StudyError, match="no prevalences"):
            read_prevalence(wrong)


def test_prevalences_of_other_classes_are_refused_before_anything_is_run(disc_cohort, tmp_path):
    study = Study(disc_cohort, (LITE0,), prevalence={"lm": 0.5, "plain": 0.5})
    with pytest.raises(StudyError, match="the classes are dotted, plain, striped"):
        study.run(tmp_path / "run")
    assert not (tmp_path / "run" / "cells").exists()


# Workers


def test_work_is_given_back_in_its_order_whoever_did_it():
    work = [(number,) for number in range(20)]
    for workers in (1, 2, 3):
        assert list(run_in_workers(_square, work, workers)) == [n * n for n in range(20)]


def test_a_fault_in_a_worker_is_a_fault_of_the_study():
    with pytest.raises(StudyError, match="planted"):
        list(run_in_workers(_fail, [(1,), (2,)], 2))


def test_the_heads_of_a_frozen_cell_are_one_piece_of_work_and_the_others_apart(disc_cohort):
    plan = Plan.make(advise("partial"), (LITE0,))
    frozen, partial = (
        next(cell for cell in plan.candidates if cell.strategy == strategy)
        for strategy in ("frozen", "partial")
    )
    splits = split_by_patient(disc_cohort.labels, disc_cohort.groups, folds=2, repeats=2)
    tasks = [Task(cell, split, 0) for cell in (partial, frozen) for split in splits]
    pieces = divide(tasks, [disc_cohort.images] * len(tasks))
    assert [len(piece.tasks) for piece in pieces] == [1, 1, 1, 1, 4]
    assert [task for piece in pieces for task in piece.tasks] == tasks
    arguments = ([disc_cohort.images] * 4, disc_cohort.labels)
    together = run_tasks(tasks[4:], *arguments, workers=2)
    for task, found in zip(tasks[4:], together, strict=True):
        (alone,) = run_tasks([task], arguments[0][:1], disc_cohort.labels, workers=1)
        np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-3)
        assert found.probabilities.shape == (len(task.split.test), 3)


@pytest.fixture
def cells_of_two_cuts():
    """A frozen cell and two partial ones, of a plan with one backbone."""
    plan = Plan.make(advise("partial"), (LITE0,))
    return [cell for cell in plan.candidates if cell.strategy in ("partial", "frozen")]


@pytest.fixture
def handed_out(monkeypatch):
    """Collect what would be handed to workers, which then do nothing."""
    work = []

    def collect(function, given, workers):
        work.extend(first for first, *_ in given)
        return iter([[]] * len(given))

    monkeypatch.setattr("meninx.study.tasks.run_in_workers", collect)
    return work


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_fit_begins_when_what_it_trains_on_is_stored(
    disc_cohort, cells_of_two_cuts, handed_out, workers
):
    images, labels = disc_cohort.images, disc_cohort.labels
    splits = split_by_patient(labels, disc_cohort.groups, folds=3, repeats=1)
    frozen, advised, neighbour = cells_of_two_cuts
    tasks = [Task(cell, split, 0) for cell in (advised, neighbour, frozen) for split in splits]
    fills, told = list_fills(cells_of_two_cuts, images), []
    assert [fill.row for fill in fills] == list(range(len(images)))
    assert set(fills[0].cuts) == {"stage6", "stage7", "head"}
    inputs = [images] * len(tasks)
    assert list(run_tasks(tasks, inputs, labels, workers, fills, told.append)) == []
    first = next(place for place, one in enumerate(handed_out) if isinstance(one, Piece))
    before = [one.row for one in handed_out[:first]]
    beside = [one.row for one in handed_out[first:] if isinstance(one, Fill)]
    # Another process has time for the images that the first fit is only asked about.
    asked = [] if workers == 1 else splits[0].test.tolist()
    assert beside == asked
    assert before == [row for row in range(len(images)) if row not in asked]
    pieces = handed_out[first : first + 1] + handed_out[first + 1 + len(beside) :]
    assert [task for piece in pieces for task in piece.tasks] == tasks
    assert told == [pytest.approx((one + 1) / first) for one in range(first)]


def test_only_what_the_first_fit_is_asked_about_is_put_off(
    disc_cohort, cells_of_two_cuts, handed_out
):
    images, labels = disc_cohort.images, disc_cohort.labels
    (split, *_) = split_by_patient(labels, disc_cohort.groups, folds=3, repeats=1)
    frozen, advised, _ = cells_of_two_cuts
    other = replace(advised, backbone=LITE1)
    scratch = replace(advised, strategy=Strategy.SCRATCH)
    fills = list_fills([advised, frozen, other], images)
    assert [fill.backbone for fill in fills] == [LITE0] * len(images) + [LITE1] * len(images)
    for first, beside in ((other, len(split.test)), (scratch, 0), (frozen, 0)):
        handed_out.clear()
        # Two heads of a frozen cell are solved together, and wait for all images.
        tasks = [Task(first, split, 0), Task(first, split, 0)]
        list(run_tasks(tasks, [images] * 2, labels, 2, fills))
        place = next(place for place, one in enumerate(handed_out) if isinstance(one, Piece))
        left = [one.backbone for one in handed_out[place:] if isinstance(one, Fill)]
        assert left == [LITE1] * beside


def test_it_does_not_matter_who_stores_activations_and_when(
    disc_cohort, cells_of_two_cuts, tmp_path, monkeypatch
):
    images, labels = disc_cohort.images, disc_cohort.labels
    splits = split_by_patient(labels, disc_cohort.groups, folds=2, repeats=1)
    frozen, last, _ = cells_of_two_cuts
    cells = [replace(last, settings={**last.settings, "epochs": 1}), frozen]
    tasks = [Task(cell, split, 0) for cell in cells for split in splits]
    fills, found = list_fills(cells, images), []
    for workers, first in ((1, []), (1, fills), (2, fills)):
        monkeypatch.setenv("MENINX_CACHE", str(tmp_path / f"{workers}-{len(first)}"))
        results = run_tasks(tasks, [images] * len(tasks), labels, workers, first)
        probabilities = [next(results).probabilities]
        assert bring_into_fast_form.cache_info().currsize == 0
        probabilities += [one.probabilities for one in results]
        found.append(np.concatenate(probabilities))
    for one in found[1:]:
        np.testing.assert_array_equal(one, found[0])


def test_what_is_trained_after_the_cells_shows_how_far_it_is(disc_cohort, monkeypatch, capfd):
    labels, groups = disc_cohort.labels, disc_cohort.groups

    def know_them_all(tasks, inputs, labels, workers):
        for task in tasks:
            yield TaskResult(np.eye(3)[labels[task.split.test]], 0.1)

    monkeypatch.setattr("meninx.study.further.run_tasks", know_them_all)
    plan = Plan.make(advise("partial", 1), (LITE0,), repeats=1)
    known = Predictions(disc_cohort.classes, labels, groups, np.eye(3)[labels][None])
    results = {cell.name: CellResult(cell, known, 1.0) for cell in plan.candidates}
    splits = split_by_patient(labels, groups, folds=3, repeats=1)
    nested = run_nested(disc_cohort, splits, results, 0, workers=1)
    assert nested.balanced_accuracy.value == 1
    curve = run_learning_curve(disc_cohort, splits, results[f"{LITE0}-frozen"], 0, workers=1)
    assert curve is not None
    shown = capfd.readouterr().err
    assert re.search(r"nested cross-validation .*100 %", shown)
    assert re.search(r"learning curve .*100 %", shown)


def test_the_longest_tasks_are_handed_out_first(disc_cohort, tmp_path, monkeypatch):
    handed_out = []

    def run_tasks(tasks, inputs, labels, workers, fills, when_filled):
        handed_out.extend(task.cell.name for task in tasks)
        return [TaskResult(np.eye(3)[labels[task.split.test]], 2.0) for task in tasks]

    monkeypatch.setattr("meninx.study.crossvalidation.run_tasks", run_tasks)
    plan = Plan.make(advise("partial", 1), (LITE0,), repeats=2)
    seconds = {"majority": 0.0, "histogram": 0.1, f"{LITE0}-frozen": 0.2}
    plan = replace(
        plan,
        cells=tuple(
            replace(cell, predicted_seconds=seconds.get(cell.name, 60.0)) for cell in plan.cells
        ),
    )
    splits = split_by_patient(disc_cohort.labels, disc_cohort.groups, folds=2, repeats=2)
    folder = RunFolder(tmp_path / "run")
    folder.begin({}, is_fresh=False)
    results = CrossValidation(disc_cohort, splits, folder, seed=0, workers=1).run(plan)
    # Of equally long cells, two repeats are half as long each.
    assert list(dict.fromkeys(handed_out)) == [
        f"{LITE0}-partial-stage6", f"{LITE0}-scratch", f"{LITE0}-partial-stage7",
        f"{LITE0}-frozen", "histogram", "majority",
    ]  # fmt: skip
    assert list(results) == [cell.name for cell in plan.cells]
    assert results["majority"].seconds == 2 * 2 * 2.0
    for result in results.values():
        assert (result.predictions.probabilities.argmax(axis=2) == disc_cohort.labels).all()


LARGE_RESULTS = """
import sys, torch
from meninx.study.tasks import fit_on_all
from meninx.study.workers import run_in_workers
torch.set_num_threads(2)
(torch.rand(4000, 4000) + 1).sum()  # the parent's second thread, which no fork has
sizes = [tensor.numel() for tensor in run_in_workers(torch.ones, [(2**22,), (2**22,)], 2)]
sys.exit(sizes != [2**22] * 2)
"""


def test_workers_are_not_forked_where_cuda_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _choose_start() == "spawn"


def test_large_results_come_back_from_workers_of_a_parent_with_several_threads():
    done = subprocess.run([sys.executable, "-c", LARGE_RESULTS], timeout=120, check=False)
    assert done.returncode == 0


def test_an_ensemble_is_fitted_side_by_side_as_one_after_the_other(disc_cohort):
    members = Plan.make(advise("frozen"), (LITE0, LITE1)).cells
    (ensemble,) = [cell for cell in members if cell.members]
    images, labels = disc_cohort.images, disc_cohort.labels
    answers = [
        fit_on_all(ensemble, images, labels, 0, workers).predict_proba(images[:3])
        for workers in (1, 2)
    ]
    assert np.array_equal(*answers)


def make_tasks(cohort, models):
    """A partial cell's task of each of two folds."""
    plan = Plan.make(advise("partial", 1), (LITE0,))
    (cell,) = [cell for cell in plan.candidates if cell.cut == "stage7"]
    small = {"epochs": 1, "views": 2, "image_size": 64}
    cell = replace(cell, settings={**cell.settings, **small})
    splits = split_by_patient(cohort.labels, cohort.groups, folds=2, repeats=1)
    return [Task(cell, split, 0, models) for split in splits]


def assert_same_networks(one, two):
    # Asked for once: each time the network is put together anew.
    first, second = (classifier.network_.state_dict() for classifier in (one, two))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.usefixtures("brief")
def test_the_model_of_a_fold_is_trained_once_and_stands_for_no_other(
    disc_cohort, tmp_path, monkeypatch
):
    images, labels = disc_cohort.images, disc_cohort.labels
    models = FoldModels(tmp_path / "models")
    tasks = make_tasks(disc_cohort, models)
    fitted = []
    fit = FineTunedClassifier.fit
    monkeypatch.setattr(
        FineTunedClassifier, "fit", lambda self, X, y: fitted.append(X.tolist()) or fit(self, X, y)
    )
    first, again, other = (
        fit_classifier(task, images, labels) for task in (tasks[0], tasks[0], tasks[1])
    )
    assert fitted == [images[task.split.train].tolist() for task in tasks]
    assert again.classes_.tolist() == first.classes_.tolist()
    assert_same_networks(first, again)
    probabilities = first.predict_proba(images)
    assert np.array_equal(probabilities, again.predict_proba(images))
    assert not np.array_equal(probabilities, other.predict_proba(images))
    other_settings = replace(tasks[0].cell, settings={**tasks[0].cell.settings, "epochs": 2})
    for change in ({"seed": 1}, {"cell": other_settings}):
        fit_classifier(replace(tasks[0], **change), images, labels)
    assert len(fitted) == 4
    weights = replace(load_backbone(LITE0).source, sha256="0" * 64)
    other_weights = replace(load_backbone(LITE0), source=weights)
    monkeypatch.setattr("meninx.finetune.classifier._load_backbone", lambda *_: other_weights)
    fit_classifier(tasks[0], images, labels)
    assert len(fitted) == 5
    models.remove()
    assert not models.folder.exists()


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("fault", ["cut short", "of another network", "nowhere to write"])
def test_a_model_that_was_not_kept_whole_is_trained_again(fault, disc_cohort, tmp_path):
    models = FoldModels(tmp_path / "models")
    task = make_tasks(disc_cohort, models)[0]
    if fault == "nowhere to write":
        models.folder.write_text("a file where the folder should be")
    expected = fit_classifier(task, disc_cohort.images, disc_cohort.labels)
    for file in models.folder.glob("*"):
        content = file.read_bytes()
        foreign = save({"head.1.weight": torch.zeros(2, 2)})
        file.write_bytes(content[:-1] if fault == "cut short" else foreign)
    given = fit_classifier(task, disc_cohort.images, disc_cohort.labels)
    assert_same_networks(expected, given)


def _square(number):
    return number * number


def _fail(number):
    raise StudyError(f"planted {number}")


def test_a_plan_without_backbones_is_refused():
    with pytest.raises(StudyError, match="at least one backbone"):
        Plan.make(advise("frozen"), ())


# The run folder


def test_every_file_of_a_run_is_there(run):
    names = {file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()}
    assert {
        "study.toml", "cohort.csv", "audit.json", "matrix.json", "plan.json", "scores.csv",
        "evaluation.json", "summary.json", "examples.json", "report.html", "bundle/bundle.json",
        "bundle/weights.safetensors", "figures/matrix.svg", "figures/confusion.png",
        "figures/roc.svg", "figures/scores.svg", "tables/scores.csv", "tables/scores.tex",
        f"cells/{LITE0}-frozen/oof.parquet", f"cells/{name_partial_cell(run)}/oof.parquet",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith(".draft")]
    assert not any(name.startswith("models/") for name in names), "the models of folds are removed"


def test_scores_csv_keeps_its_columns(run):
    lines = (run / "scores.csv").read_text().splitlines()
    assert lines[0] == SCORE_COLUMNS
    assert {line.split(",")[4] for line in lines[1:]} == {"candidate", "baseline"}


def test_summary_json_keeps_its_fields(run):
    summary = json.loads((run / "summary.json").read_text())
    assert {
        "chosen", "headline", "naive", "images", "patients", "seconds", "seed", "versions",
    } <= summary.keys()  # fmt: skip
    for name in ("headline", "naive"):
        assert summary[name].keys() == {"balanced_accuracy", "low", "high"}
    assert (summary["images"], summary["patients"]) == (18, 18)


def test_each_image_has_one_out_of_fold_prediction_a_repeat(run):
    table = pd.read_parquet(run / "cells" / f"{LITE0}-frozen" / "oof.parquet")
    assert table.columns.tolist() == [
        "sample", "patient", "fold", "repeat", "label", "p_dotted", "p_plain", "p_striped",
    ]  # fmt: skip
    assert (table.groupby("repeat")["sample"].nunique() == 18).all() and len(table) == 36


def test_scores_are_computed_from_the_out_of_fold_predictions(run):
    from sklearn.metrics import balanced_accuracy_score

    for _, row in read_scores(run).iterrows():
        table = pd.read_parquet(run / "cells" / row["cell"] / "oof.parquet")
        probabilities = table.filter(like="p_")
        predicted = probabilities.columns[probabilities.to_numpy().argmax(1)].str[2:]
        by_repeat = [
            balanced_accuracy_score(table["label"][rows], predicted[rows])
            for rows in table.groupby("repeat").indices.values()
        ]
        assert row["balanced_accuracy"] == pytest.approx(np.mean(by_repeat))


@pytest.mark.usefixtures("unreported")
def test_no_model_is_asked_about_a_patient_it_was_trained_on(named_folder, tmp_path, monkeypatch):
    """Every classifier of a study is watched: what it is fitted on, and what it then predicts.

    That a head solved with others is fitted on its own side alone is tested with the heads.
    """
    asked = []
    fit, predict = FineTunedClassifier.fit, FineTunedClassifier.predict_proba
    cross_predict = FineTunedClassifier.cross_predict

    def watch_fit(self, X, y, groups=None):
        self.seen_ = {sample.patient for sample in X}
        return fit(self, X, y, groups)

    def watch_predict(self, X):
        asked.append((self.seen_, {sample.patient for sample in X}))
        return predict(self, X)

    def watch_cross_predict(self, X, y, sides):
        for side in sides:
            asked.append(tuple({sample.patient for sample in X[rows]} for rows in side))
        return cross_predict(self, X, y, sides)

    monkeypatch.setattr(FineTunedClassifier, "cross_predict", watch_cross_predict)
    monkeypatch.setattr(FineTunedClassifier, "fit", watch_fit)
    monkeypatch.setattr(FineTunedClassifier, "predict_proba", watch_predict)
    run_study(named_folder, tmp_path / "run", workers=1, strategies=(Strategy.FROZEN,))
    assert len(asked) == 4 + 8  # two folds: twice, and for four sizes of the learning curve
    assert all(seen and tested and not seen & tested for seen, tested in asked)


def test_a_study_speaks_to_no_other_machine(named_folder, tmp_path, monkeypatch):
    def refuse(*address):
        raise AssertionError(f"the study tried to reach {address}")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    run_study(named_folder, tmp_path / "run", workers=1, strategies=(Strategy.FROZEN,))


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_seed_gives_the_same_run_for_any_number_of_workers(
    workers, run, named_folder, tmp_path
):
    again = run_study(named_folder, tmp_path / "again", workers=workers)
    pd.testing.assert_frame_equal(read_scores(run), read_scores(again), check_exact=True)
    for file in (run / "cells").glob("*/oof.parquet"):
        other = again / file.relative_to(run)
        pd.testing.assert_frame_equal(
            pd.read_parquet(file), pd.read_parquet(other), check_exact=True
        )


@pytest.mark.usefixtures("unreported")
def test_another_seed_gives_other_folds(run, named_folder, tmp_path):
    other = run_study(named_folder, tmp_path / "other", seed=1, strategies=(Strategy.FROZEN,))
    name = f"cells/{LITE0}-frozen/oof.parquet"
    one, two = pd.read_parquet(run / name), pd.read_parquet(other / name)
    assert one["sample"].tolist() != two["sample"].tolist()


@pytest.mark.usefixtures("unreported")
def test_a_study_that_was_interrupted_goes_on_and_ends_the_same(run, named_folder, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(run, half)
    kept = half / "cells" / f"{LITE0}-frozen" / "oof.parquet"
    written = kept.stat().st_mtime_ns
    shutil.rmtree(half / "cells" / name_partial_cell(run))
    (half / "cells" / "histogram" / "cell.json").unlink()  # half a result: predictions only
    (half / "summary.json").unlink()
    run_study(named_folder, half)
    assert kept.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(read_scores(run), read_scores(half), check_exact=True)


def test_a_folder_with_another_study_is_not_written_over(run, named_folder):
    with pytest.raises(StudyError, match=r"another study.*seed.*--fresh"):
        run_study(named_folder, run, seed=7)


def test_a_folder_with_something_else_is_not_written_to(named_folder, tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(StudyError, match="holds no study"):
        run_study(named_folder, tmp_path)
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


# Names


def read_everything(folder):
    """Give every byte of a folder, what is compressed also unpacked."""
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        yield str(file.relative_to(folder)).encode()
        content = file.read_bytes()
        yield content
        if file.suffix == ".parquet":
            yield pd.read_parquet(file).to_csv().encode()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    yield archive.read(name)


def test_no_name_of_a_patient_is_in_a_run(run, named_folder):
    for content in read_everything(run):
        assert SECRET.encode() not in content
        assert str(named_folder).encode() not in content


def test_a_planted_name_would_be_found(tmp_path):
    pd.DataFrame({"patient": [SECRET] * 1000}).to_parquet(tmp_path / "leak.parquet")
    assert any(SECRET.encode() in content for content in read_everything(tmp_path))


def test_weights_are_safetensors(run):
    with safe_open(run / "bundle" / "weights.safetensors", framework="pt") as file:
        assert any(name.startswith("member1.head.") for name in file.keys())  # noqa: SIM118


# Cohorts that a study must refuse or say something about


def test_an_image_with_two_labels_stops_the_study(named_folder, tmp_path):
    folder = tmp_path / "conflict"
    shutil.copytree(named_folder, folder)
    first = next((folder / "plain").glob("*.png"))
    shutil.copy(first, folder / "dotted" / f"{SECRET}copy-scan99.png")
    with pytest.raises(CohortError):
        run_study(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "scores.csv").exists()


@pytest.mark.usefixtures("unreported")
def test_a_copy_of_an_image_is_on_the_side_of_its_original(named_folder, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(named_folder, folder)
    first = next((folder / "plain").glob("*.png"))
    shutil.copy(first, folder / "plain" / f"{SECRET}copy-scan99.png")
    run = run_study(folder, tmp_path / "run", strategies=(Strategy.FROZEN,))
    table = pd.read_parquet(run / "cells" / f"{LITE0}-frozen" / "oof.parquet")
    assert (table.groupby(["repeat", "patient"])["fold"].nunique() == 1).all()
    assert (table.groupby(["repeat", "patient"]).size() == 2).any()


@pytest.mark.usefixtures("brief")
def test_synthetic_images_are_marked_in_every_output(tmp_path):
    folder = write_cohort(tmp_path / "made", {"plain": 4, "striped": 4})
    write_manifest(folder, "image,label,patient,synthetic", lambda number: f"{number},true")
    study = Study(Cohort.open(folder), (LITE0,), strategies=(Strategy.FROZEN,), folds=2, repeats=1)
    study.run(tmp_path / "run")
    assert json.loads((tmp_path / "run/summary.json").read_text())["synthetic"] is True
    assert json.loads((tmp_path / "run/bundle/bundle.json").read_text())["synthetic"] is True
    assert "synthetic" in (tmp_path / "run/report.html").read_text().lower()


@pytest.mark.usefixtures("brief", "unreported")
def test_folds_of_the_manifest_are_used_once_and_the_plan_says_so(tmp_path):
    folder = write_cohort(tmp_path / "folded", {"plain": 4, "striped": 4})
    write_manifest(folder, "image,label,fold", lambda number: number % 2 + 1)
    cohort = Cohort.open(folder)
    Study(cohort, (LITE0,), strategies=(Strategy.FROZEN,)).run(tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["cells"]
    assert all((cell["folds"], cell["repeats"]) == (2, 1) for cell in plan)
    table = pd.read_parquet(tmp_path / "run" / "cells" / f"{LITE0}-frozen" / "oof.parquet")
    fold_of = dict(zip(cohort.sample_names, cohort.folds, strict=True))
    assert (table["sample"].map(fold_of) == table["fold"] + 1).all() and len(table) == 8


# Did the advice hold?


def test_the_advised_cell_is_compared_with_the_best_one(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    advice, scores = evaluation["advice"], read_scores(run).set_index("cell")["balanced_accuracy"]
    assert advice["cell"] in {f"{LITE0}-frozen", name_partial_cell(run)}
    assert advice["difference"] == pytest.approx(scores[advice["cell"]] - scores[advice["best"]])
    assert advice["low"] <= advice["difference"] <= advice["high"]
    assert advice["difference"] <= 0


# Two runs


def test_a_run_compared_with_itself_differs_by_nothing(run):
    result = compare_runs(run, run)
    assert result["difference"] == 0 and result["low"] <= 0 <= result["high"]


def test_a_run_that_is_not_finished_is_not_compared(run, tmp_path):
    with pytest.raises(StudyError, match="no finished study"):
        compare_runs(run, tmp_path)


def test_a_study_of_patients_with_images_of_several_labels_keeps_them_apart_and_says_so(
    tmp_path, monkeypatch
):
    """Four patients have an image of each class, one of each class has two of that class."""
    monkeypatch.setattr("meninx.report.rendering.render_figure", lambda figure, kind: b"<svg/>")
    folder = write_cohort(tmp_path / "discs", {"plain": 6, "striped": 6, "dotted": 6}, seed=8)
    for file in folder.glob("*/scan0[45].png"):
        file.rename(file.with_name(f"{file.parent.name}-{file.name}"))
    cohort = Cohort.from_folder(folder, patient_pattern=r"^scan\d+|^[a-z]+(?=-)")
    assert len(set(cohort.groups)) == 7
    run = tmp_path / "run"
    study = Study(cohort, (LITE0,), strategies=(Strategy.FROZEN,), folds=3, repeats=1)
    with made_brief():
        study.run(run, workers=1)
    oof = pd.read_parquet(next(run.glob("cells/*frozen/oof.parquet")))
    assert (oof.groupby("patient")["fold"].nunique() == 1).all()
    assert (oof.groupby("fold")["label"].nunique() == 3).all()
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["patients_of_several_labels"] == 4
    assert evaluation["patient_level"]["patients"] == 3
    assert json.loads((run / "matrix.json").read_text())["patients"] == 7
    english = (run / "report.html").read_text()
    assert "Patients with images of several classes: 4 of 7." in english
    assert "4 of 7 patients have images of several labels" in english
    render(run, "id")
    indonesian = (run / "report.html").read_text()
    assert "Pasien dengan citra dari beberapa kelas: 4 dari 7 pasien." in indonesian
    assert "4 dari 7 pasien memiliki citra dengan beberapa label" in indonesian

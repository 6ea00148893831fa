"""The study: from a folder of images to a run folder, whole, repeatable, without names."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from meninx.cli.parsing import read_duration, read_prevalence, write_duration
from meninx.cohort import Cohort
from meninx.errors import CohortError, StudyError
from meninx.evaluate import split_by_patient
from meninx.finetune import FineTunedClassifier, Preset, Strategy, load_backbone
from meninx.matrix import Advice
from meninx.report import render
from meninx.results import RunFolder
from meninx.study import Plan, Study, compare_runs
from meninx.study.clock import Clock, Pace
from meninx.study.fold_networks import FoldNetworks
from meninx.study.progress import StudyProgress
from meninx.study.runner import Runner
from meninx.study.tasks import Task, fit_on_all
from meninx.study.workers import Workers
from tests.conftest import advise, made_brief, write_cohort

LITE0, LITE1 = "tf_efficientnet_lite0", "tf_efficientnet_lite1"
SCORE_COLUMNS = (
    "model,backbone,strategy,cut,role,balanced_accuracy,balanced_accuracy_low,"
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


def run_study(folder, out, workers=1, **settings):
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


def name_partial_model(run):
    """Name the partial model; its cut is what the matrix advises for these images."""
    (model,) = (run / "models").glob("*-partial-*")
    return model.name


def read_scores(run):
    return pd.read_csv(run / "scores.csv").drop(columns="seconds")


# The plan


def test_the_plan_has_three_depths_their_mean_and_the_baselines():
    plan = Plan.make(advise("partial", 4), (LITE0,))
    assert {model.name: model.repeats for model in plan.models} == {
        "majority": 2,
        "histogram": 2,
        f"{LITE0}-frozen": 2,
        f"{LITE0}-partial-stage4": 2,
        f"{LITE0}-full": 2,
        "ensemble": 2,
        f"{LITE0}-scratch": 1,
    }


def test_all_candidates_have_the_same_repeats():
    # One that is looked at less often is noisier, and the best of several is often the noisiest.
    plan = Plan.make(advise("partial", 1), (LITE0, LITE1), repeats=4)
    assert {model.repeats for model in plan.candidates} == {4} and len(plan.candidates) == 6


def test_images_are_gone_through_often_enough():
    # 7 passes left the phantom's own training images 69 to 90 % right.
    partial = [model for model in Plan.make(advise("partial", 4), (LITE0,)).models if model.cut]
    assert all(model.recipe.epochs >= 20 for model in partial)


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        (advise("full"), "stage6"),
        (advise("partial", 2), "stage6"),
        (advise("partial", 4), "stage4"),
    ],
)
def test_all_three_strategies_are_tried(advice, expected):
    plan = Plan.make(advice, (LITE0, LITE1))
    first = [model for model in plan.candidates if model.backbone == LITE0]
    assert [model.strategy for model in first] == ["frozen", "partial", "full"]
    assert first[1].cut == expected
    assert [model.strategy for model in plan.candidates if model.is_advised] == [
        advice.strategy
    ] * 2


def test_where_few_images_are_like_photographs_not_everything_is_trained():
    candidates = Plan.make(advise("frozen"), (LITE0,)).candidates
    assert [model.strategy for model in candidates] == ["frozen", "partial", "ensemble"]


def test_models_are_trained_as_the_matrix_advises():
    advice = Advice("partial", "stage7", 1, (256,), 0.5, 2e-3, ("Because.",))
    models = {
        model.name.removeprefix(f"{LITE0}-"): model for model in Plan.make(advice, (LITE0,)).models
    }
    advised = models["partial-stage7"]
    assert advised.extra_layers == (256,) and advised.is_advised
    usual = Preset.DEFAULT.recipe
    assert advised.recipe == replace(usual, augmentation=0.5, learning_rate=2e-3)
    assert models["frozen"].extra_layers == ()  # the simplest transfer, to compare with


def test_strategies_that_are_asked_for_replace_the_advice():
    plan = Plan.make(advise("partial", 1), (LITE0,), (Strategy.FULL, Strategy.SCRATCH))
    assert [model.name for model in plan.models] == [
        "majority", "histogram", f"{LITE0}-full", f"{LITE0}-scratch",
    ]  # fmt: skip


def test_a_deeper_cut_trains_more():
    frozen, partial, full = Plan.make(advise("partial", 2), (LITE0,)).candidates[:3]
    assert 0 == frozen.trained_parameters < partial.trained_parameters < full.trained_parameters


# The clock


def make_clock(plan, limit=None, workers=1):
    """A clock for which a step takes a second, of a plan of 50 images in 5 folds."""
    paces = {model.name: Pace(image=0.5, step=1.0) for model in plan.models if model.is_fitted}
    return Clock(limit, workers, 50, 5, paces)


def test_a_study_takes_its_features_its_fits_and_what_comes_after():
    plan = Plan.make(advise("partial", 4), (LITE0,), repeats=2)
    clock = make_clock(plan, workers=2)
    priced = clock.price(plan)
    predicted = {model.name: model.predicted_seconds for model in priced.models}
    assert predicted[f"{LITE0}-partial-stage4"] == 20 * 5 * 5 * 2  # epochs, steps, folds, repeats
    assert predicted["ensemble"] == 2 * predicted[f"{LITE0}-partial-stage4"]
    fits = sum(model.predicted_seconds for model in priced.models if not model.members)
    assert priced.predicted_seconds > (fits + 50 * 0.5) / 2


def test_what_was_observed_takes_the_place_of_what_was_predicted():
    plan = Plan.make(advise("partial", 4), (LITE0,))
    clock = make_clock(plan)
    (model,) = [model for model in plan.models if model.cut == "stage4"]
    for seconds in (10.0, 14.0):
        clock.note(model, seconds)
    assert clock.predict_fit(model) == 12.0


class SlowWorkers:
    """Workers that need a second of the clock for each fit and know every answer."""

    count, device, jobs = 1, "cpu", 1

    def __init__(self, clock):
        self.clock = clock

    def run(self, function, work):
        for task, *rest in work:
            if isinstance(task, Task):
                self.clock.started -= 1.0
                labels = rest[1]
                yield SimpleNamespace(
                    probabilities=np.eye(3)[labels[task.split.test]], seconds=1.0, history=()
                )
            else:
                yield None


def run_slowly(cohort, tmp_path, limit, repeats=3, fresh=True):
    plan = Plan.make(advise("partial", 1), (LITE0,), folds=3, repeats=repeats)
    splits = split_by_patient(cohort.labels, cohort.groups, folds=3, repeats=repeats)
    paces = {model.name: Pace(start=1 / 12) for model in plan.models if model.is_fitted}
    clock = Clock(limit, 1, len(cohort.samples), 3, paces)
    folder = RunFolder(tmp_path / "run")
    folder.begin({}, fresh=fresh)
    runner = Runner(cohort, splits, folder, 0, SlowWorkers(clock), clock, StudyProgress())
    return runner.run(plan)


def test_without_a_limit_everything_is_run(disc_cohort, tmp_path):
    plan, results = run_slowly(disc_cohort, tmp_path, limit=None)
    assert plan.left_out == () and list(results) == [model.name for model in plan.models]
    assert {len(one.predictions.probabilities) for one in results.values()} == {3, 1}
    for result in results.values():
        assert (result.predictions.probabilities.argmax(axis=2) == disc_cohort.labels).all()


def test_a_study_that_goes_on_with_less_time_has_equal_repeats_too(disc_cohort, tmp_path):
    plan, _ = run_slowly(disc_cohort, tmp_path, limit=None)
    (tmp_path / "run" / "models" / f"{LITE0}-partial-stage7" / "model.json").unlink()
    plan, results = run_slowly(disc_cohort, tmp_path, limit=41, fresh=False)
    assert len({model.repeats for model in plan.candidates}) == 1
    for model in plan.candidates:
        assert len(results[model.name].predictions.probabilities) == model.repeats


@pytest.mark.parametrize("limit", [1, 45, 55, 70, 90])
def test_a_limit_keeps_the_most_informative_models_and_repeats_alike(disc_cohort, tmp_path, limit):
    plan, results = run_slowly(disc_cohort, tmp_path, limit)
    kept = [model.name for model in plan.models]
    assert {"majority", "histogram", f"{LITE0}-frozen"} <= set(kept)
    assert set(kept) == set(results)
    left = {one.model for one in plan.left_out}
    assert left | set(kept) == {
        model.name for model in Plan.make(advise("partial", 1), (LITE0,)).models
    }
    if f"{LITE0}-scratch" in kept:  # what tells least comes last
        assert f"{LITE0}-partial-stage7" in kept
    assert len({model.repeats for model in plan.candidates}) == 1
    for model in plan.models:
        assert len(results[model.name].predictions.probabilities) == model.repeats
    if limit == 1:
        assert left and all(f"into {limit} s" in one.reason.text for one in plan.left_out)


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
    assert not (tmp_path / "run" / "fold_networks").exists()


# Workers


def test_work_is_given_back_in_its_order_whoever_did_it():
    work = [(number,) for number in range(20)]
    for jobs in (1, 2):
        assert list(Workers(jobs).run(_square, work)) == [n * n for n in range(20)]


def test_a_fault_in_a_worker_is_a_fault_of_the_study():
    with pytest.raises(StudyError, match="planted"):
        list(Workers(2).run(_fail, [(1,), (2,)]))


def test_work_is_taken_as_workers_become_free():
    taken = []

    def give():
        for number in range(12):
            taken.append(number)
            yield (0.4,)

    results = Workers(2).run(time.sleep, give())
    next(results)
    assert len(taken) < 12
    assert len(list(results)) == 11


ORPHANS = """
import sys, time
from meninx.study.workers import Workers
def tell(number):
    import os, time
    print(os.getpid(), flush=True)
    time.sleep(60)
list(Workers(2).run(tell, [(1,), (2,)]))
"""


def test_no_worker_outlives_the_study(tmp_path):
    with (tmp_path / "pids").open("w") as told:
        study = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=told)
        until(lambda: len((tmp_path / "pids").read_text().split()) == 2)
        study.kill()
        study.wait()
    workers = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(is_running(pid) for pid in workers))


def until(is_so, seconds=60):
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.2)


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_an_ensemble_is_fitted_side_by_side_as_one_after_the_other(disc_cohort):
    plan = Plan.make(advise("frozen"), (LITE0, LITE1), (Strategy.FROZEN,))
    (ensemble,) = [model for model in plan.models if model.members]
    answers = [
        fit_on_all(ensemble, disc_cohort, 0, Workers(jobs)).predict_proba(disc_cohort.images[:3])
        for jobs in (1, 2)
    ]
    assert np.array_equal(*answers)


def make_tasks(cohort, models):
    """A partial model's task of each of two folds."""
    plan = Plan.make(advise("partial", 1), (LITE0,))
    (model,) = [model for model in plan.candidates if model.cut == "stage7"]
    small = replace(model.recipe, epochs=1, fewest_steps=3, views=2, image_size=64)
    model = replace(model, recipe=small)
    splits = split_by_patient(cohort.labels, cohort.groups, folds=2, repeats=1)
    return [Task(model, split, 0, models=models) for split in splits]


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
    models = FoldNetworks(tmp_path / "models")
    tasks = make_tasks(disc_cohort, models)
    fitted = []
    fit = FineTunedClassifier.fit
    monkeypatch.setattr(
        FineTunedClassifier, "fit", lambda self, X, y: fitted.append(X.tolist()) or fit(self, X, y)
    )
    first, again, other = (task.fit(images, labels) for task in (tasks[0], tasks[0], tasks[1]))
    assert fitted == [images[task.split.train].tolist() for task in tasks]
    assert again.classes_.tolist() == first.classes_.tolist()
    assert_same_networks(first, again)
    probabilities = first.predict_proba(images)
    assert np.array_equal(probabilities, again.predict_proba(images))
    assert not np.array_equal(probabilities, other.predict_proba(images))
    longer = replace(tasks[0].model, recipe=replace(tasks[0].model.recipe, epochs=2))
    for change in ({"seed": 1}, {"model": longer}):
        replace(tasks[0], **change).fit(images, labels)
    assert len(fitted) == 4
    weights = replace(load_backbone(LITE0).source, sha256="0" * 64)
    other_weights = replace(load_backbone(LITE0), source=weights)
    monkeypatch.setattr("meninx.finetune.classifier._load_backbone", lambda *_: other_weights)
    tasks[0].fit(images, labels)
    assert len(fitted) == 5
    models.remove()
    assert not models.folder.exists()


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("fault", ["cut short", "of another network", "nowhere to write"])
def test_a_model_that_was_not_kept_whole_is_trained_again(fault, disc_cohort, tmp_path):
    models = FoldNetworks(tmp_path / "models")
    task = make_tasks(disc_cohort, models)[0]
    if fault == "nowhere to write":
        models.folder.write_text("a file where the folder should be")
    expected = task.fit(disc_cohort.images, disc_cohort.labels)
    for file in models.folder.glob("*"):
        content = file.read_bytes()
        foreign = save({"head.1.weight": torch.zeros(2, 2)})
        file.write_bytes(content[:-1] if fault == "cut short" else foreign)
    given = task.fit(disc_cohort.images, disc_cohort.labels)
    assert_same_networks(expected, given)


def _square(number):
    return number * number


def _fail(number):
    raise StudyError(f"planted {number}")


def _kill_oneself(number):
    os.kill(os.getpid(), signal.SIGKILL)


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
        f"models/{LITE0}-frozen/oof.parquet", f"models/{name_partial_model(run)}/oof.parquet",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith(".draft")]
    assert not any(name.startswith("fold_networks/") for name in names), (
        "the networks of folds are removed"
    )


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
    table = pd.read_parquet(run / "models" / f"{LITE0}-frozen" / "oof.parquet")
    assert table.columns.tolist() == [
        "sample", "patient", "fold", "repeat", "label", "p_dotted", "p_plain", "p_striped",
    ]  # fmt: skip
    assert (table.groupby("repeat")["sample"].nunique() == 18).all() and len(table) == 36


def test_scores_are_computed_from_the_out_of_fold_predictions(run):
    from sklearn.metrics import balanced_accuracy_score

    for _, row in read_scores(run).iterrows():
        table = pd.read_parquet(run / "models" / row["model"] / "oof.parquet")
        probabilities = table.filter(like="p_")
        predicted = probabilities.columns[probabilities.to_numpy().argmax(1)].str[2:]
        by_repeat = [
            balanced_accuracy_score(table["label"][rows], predicted[rows])
            for rows in table.groupby("repeat").indices.values()
        ]
        assert row["balanced_accuracy"] == pytest.approx(np.mean(by_repeat))


def make_quiet_clock(plan, cohort, workers, limit, started):
    """A clock that fits nothing to know what fits take."""
    return Clock(limit, workers.count, len(cohort.samples), plan.folds, {}, started)


@pytest.mark.usefixtures("unreported")
def test_no_model_is_asked_about_a_patient_it_was_trained_on(named_folder, tmp_path, monkeypatch):
    """Every classifier of a study is watched: what it is fitted on, and what it then predicts."""
    asked = []
    fit, predict = FineTunedClassifier.fit, FineTunedClassifier.predict_proba

    def watch_fit(self, X, y, **further):
        self.seen_ = {sample.patient for sample in X}
        return fit(self, X, y, **further)

    def watch_predict(self, X):
        asked.append((self.seen_, {sample.patient for sample in X}))
        return predict(self, X)

    monkeypatch.setattr(FineTunedClassifier, "fit", watch_fit)
    monkeypatch.setattr(FineTunedClassifier, "predict_proba", watch_predict)
    monkeypatch.setattr("meninx.study.study.Clock.measure", make_quiet_clock)
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
@pytest.mark.parametrize(
    "workers", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_the_same_seed_gives_the_same_run_for_any_number_of_workers(
    workers, run, named_folder, tmp_path
):
    again = run_study(named_folder, tmp_path / "again", workers=workers)
    pd.testing.assert_frame_equal(read_scores(run), read_scores(again), check_exact=True)
    for file in (run / "models").glob("*/oof.parquet"):
        other = again / file.relative_to(run)
        pd.testing.assert_frame_equal(
            pd.read_parquet(file), pd.read_parquet(other), check_exact=True
        )


@pytest.mark.usefixtures("unreported")
def test_another_seed_gives_other_folds(run, named_folder, tmp_path):
    other = run_study(named_folder, tmp_path / "other", seed=1, strategies=(Strategy.FROZEN,))
    name = f"models/{LITE0}-frozen/oof.parquet"
    one, two = pd.read_parquet(run / name), pd.read_parquet(other / name)
    assert one["sample"].tolist() != two["sample"].tolist()


@pytest.mark.usefixtures("unreported")
def test_a_study_that_was_interrupted_goes_on_and_ends_the_same(run, named_folder, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(run, half)
    kept = half / "models" / f"{LITE0}-frozen" / "oof.parquet"
    written = kept.stat().st_mtime_ns
    shutil.rmtree(half / "models" / name_partial_model(run))
    (half / "models" / "histogram" / "model.json").unlink()  # half a result: predictions only
    (half / "summary.json").unlink()
    run_study(named_folder, half)
    assert kept.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(read_scores(run), read_scores(half), check_exact=True)


@pytest.mark.parametrize("name", ["model.json", "oof.parquet"])
def test_a_damaged_result_is_neither_gone_on_with_nor_compared(run, named_folder, tmp_path, name):
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    file = damaged / "models" / RunFolder(run).summary.chosen / name
    file.write_bytes(file.read_bytes()[:-1])
    for use in (lambda: run_study(named_folder, damaged), lambda: compare_runs(run, damaged)):
        with pytest.raises(StudyError, match=rf"{name}.*trains this model again"):
            use()


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
    table = pd.read_parquet(run / "models" / f"{LITE0}-frozen" / "oof.parquet")
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
    plan = RunFolder(tmp_path / "run").plan
    assert plan.folds == 2 and {model.repeats for model in plan.models} == {1}
    table = pd.read_parquet(tmp_path / "run" / "models" / f"{LITE0}-frozen" / "oof.parquet")
    fold_of = dict(zip(cohort.sample_names, cohort.folds, strict=True))
    assert (table["sample"].map(fold_of) == table["fold"] + 1).all() and len(table) == 8


# Did the advice hold?


def test_the_advised_model_is_compared_with_the_best_one(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    advice, scores = evaluation["advice"], read_scores(run).set_index("model")["balanced_accuracy"]
    assert advice["model"] in {f"{LITE0}-frozen", name_partial_model(run)}
    low, difference, high = (advice["difference"][end] for end in ("low", "value", "high"))
    assert difference == pytest.approx(scores[advice["model"]] - scores[advice["best"]])
    assert low <= difference <= high and difference <= 0


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
    oof = pd.read_parquet(next(run.glob("models/*frozen/oof.parquet")))
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


# Last, since the workers of the tests before are no longer there then


def test_a_worker_that_is_killed_ends_the_study_in_a_sentence():
    with pytest.raises(StudyError, match=r"ended from outside.*--jobs 1"):
        list(Workers(2).run(_kill_oneself, [(number,) for number in range(4)]))

"""What a run folder promises: each file is read back as it was written, or refused by name."""

import json
import re
import shutil
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meninx.errors import OutputError, StudyError
from meninx.evaluate import Estimate
from meninx.language import Message
from meninx.results import RunFolder, convert
from meninx.results.evaluation import Interval
from meninx.results.json_schema import FILES, make_json_schema
from meninx.results.run_folder import JSON_FILES
from meninx.results.schema import HistoryRow, PlannedModel, ScoreRow
from tests.finished_runs import write_run, write_statistics

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def finished(tmp_path) -> RunFolder:
    return RunFolder.read(write_statistics(write_run(tmp_path / "finished")))


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """A folder with the results of two models."""
    folder = RunFolder(tmp_path / "run")
    for number, name in enumerate(("first", "second")):
        folder.write_model(plan_model(name), make_predictions(number), seconds=1.5)
    return folder


def plan_model(name):
    return PlannedModel(
        model=name, backbone="net", strategy="frozen", cut=None, role="candidate", repeats=1,
        reason="", message=Message("asked"),
        trained_parameters=0, recipe={"epochs": 20, "head_start": None},
    )  # fmt: skip


def make_predictions(seed):
    first = np.random.default_rng(seed).random(50)
    samples = [f"S-{number}" for number in range(50)]
    return pd.DataFrame({"sample": samples, "p_a": first, "p_b": 1 - first})


def test_every_json_file_is_read_back_as_it_was_written(finished, tmp_path):
    copy = RunFolder(tmp_path / "copy")
    for name in ("summary", "matrix", "plan", "evaluation", "explanations"):
        copy.write(getattr(finished, name))
        assert getattr(copy, name) == getattr(finished, name)
    copy.write_examples(finished.examples, {})
    assert copy.examples == finished.examples


def test_rows_are_read_back_as_they_were_written(finished, tmp_path):
    copy = RunFolder(tmp_path / "copy")
    copy.write_scores(finished.scores)
    assert copy.scores == finished.scores
    assert any(row.auc is None for row in copy.scores)
    header = (copy.path / "scores.csv").read_text().splitlines()[0]
    assert header == ",".join(ScoreRow.__dataclass_fields__)


def test_a_number_that_is_none_is_written_as_null_and_read_as_none(finished, tmp_path):
    assert convert(Interval, Estimate(nan, 0.1, np.float64(0.2))) == Interval(None, 0.1, 0.2)
    copy = RunFolder(tmp_path / "copy")
    nested = replace(finished.evaluation.nested, balanced_accuracy=Interval(0.7, nan, nan))
    copy.write(replace(finished.evaluation, nested=nested))
    assert "NaN" not in (copy.path / "evaluation.json").read_text()
    assert copy.evaluation.nested.balanced_accuracy == Interval(0.7, None, None)


def test_a_model_is_read_back_with_how_its_loss_fell(folder, finished):
    history = [HistoryRow(0, fold, 1, 0.5, 1e-3, 2.0) for fold in range(2)]
    folder.write_model(plan_model("first"), make_predictions(3), 2.0, history)
    table, record = folder.read_model("first")
    pd.testing.assert_frame_equal(table, make_predictions(3), check_exact=True)
    assert (record.model, record.seconds, record.recipe["epochs"]) == ("first", 2.0, 20)
    assert len((folder.path / "models/first/history.csv").read_text().splitlines()) == 3
    assert folder.read_model("never run") is None


def cut_short(file):
    file.write_bytes(file.read_bytes()[:300])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))


FAULTS = {
    "empty": lambda file: file.write_bytes(b""),
    "half": cut_short,
    "flipped": flip_a_bit,
    "exchanged": lambda file: shutil.copy(file.parents[1] / "second" / file.name, file),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_predictions_are_named_with_the_cure(folder, fault):
    file = folder.path / "models" / "first" / "oof.parquet"
    FAULTS[fault](file)
    with pytest.raises(StudyError, match=re.escape(f"{file} is damaged")) as raised:
        folder.read_model("first")
    assert f"delete the folder {file.parent}" in str(raised.value)
    shutil.rmtree(file.parent)
    assert folder.read_model("first") is None


@pytest.mark.parametrize("content", [b"", b'{"a"', b"[]", b"\xff\xfe", b'{"model": "first"}'])
def test_a_damaged_record_of_a_model_is_named_with_the_cure(folder, content):
    file = folder.path / "models" / "first" / "model.json"
    file.write_bytes(content)
    with pytest.raises(StudyError, match=re.escape(str(file))) as raised:
        folder.read_model("first")
    assert "trains this model again" in str(raised.value)


def test_the_whole_result_of_another_model_is_refused(folder):
    models = folder.path / "models"
    shutil.rmtree(models / "first")
    shutil.copytree(models / "second", models / "first")
    with pytest.raises(StudyError, match="of another model"):
        folder.read_model("first")


def test_a_result_that_is_written_again_but_not_whole_is_no_result(folder, monkeypatch):
    from meninx.results import run_folder

    write = run_folder.write_whole

    def fail(path, content):
        if path.name == "model.json":
            raise OutputError("no space left")
        return write(path, content)

    monkeypatch.setattr(run_folder, "write_whole", fail)
    with pytest.raises(OutputError):
        folder.write_model(plan_model("first"), make_predictions(7), seconds=1.0)
    assert folder.read_model("first") is None


def test_a_damaged_record_of_a_study_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin({"seed": 1}, fresh=False)
    (tmp_path / "study.toml").write_text("seed = ")
    with pytest.raises(StudyError, match=r"study\.toml is not TOML.*--fresh"):
        folder.begin({"seed": 1}, fresh=False)


def test_the_schema_in_the_documentation_is_that_of_the_code():
    published = (DOCS / "results.schema.json").read_text()
    assert published == make_json_schema(), "run `make schema`"


def test_the_schema_names_every_json_file_and_resolves_every_reference():
    content = json.loads(make_json_schema())
    assert set(content["properties"]) == set(FILES) > set(JSON_FILES.values())
    references = set(re.findall(r'"#/\$defs/(\w+)"', make_json_schema()))
    assert references == set(content["$defs"])

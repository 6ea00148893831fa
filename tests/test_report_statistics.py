"""What the report promises of the statistics: said in plain words, and only what was computed."""

import csv
import json

import pytest

from meninx.errors import StudyError
from meninx.report import Words, render, render_figure
from meninx.report.figures import draw_learning_curve, draw_reliability
from meninx.report.table import Column, Duration, Table
from meninx.results import RunFolder, convert
from meninx.results.evaluation import LearningCurve
from tests.finished_runs import (
    CHOSEN,
    Reader,
    change_json,
    interval,
    write_explanations,
    write_json,
    write_run,
    write_statistics,
)

OPTIONAL = (
    "chance", "prediction_sets", "calibration", "patient_level", "learning_curve", "nested",
    "ood",
)  # fmt: skip
TABLES = {
    "cost", "left_out", "measures", "predictive_values", "patient_classes", "calibration",
    "prediction_sets", "forecast", "sanity", "localisation",
}  # fmt: skip


def leave_out_figures(patch: pytest.MonkeyPatch) -> None:
    """Draw figures but render none: that takes the time."""
    patch.setattr("meninx.report.rendering.render_figure", lambda figure, kind: b"<svg/>")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A rendered run that has everything, to look at and not to change."""
    run = write_statistics(write_run(tmp_path_factory.mktemp("whole") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        render(run)
    return run


@pytest.fixture(scope="module")
def text(whole) -> str:
    return Reader((whole / "report.html").read_text()).text


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that has everything, to change."""
    leave_out_figures(monkeypatch)
    return write_statistics(write_run(tmp_path / "run"))


def read(run) -> str:
    return Reader(render(run).read_text()).text


def change_evaluation(run, name, **fields) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation[name] |= fields
    write_json(run / "evaluation.json", evaluation)


def read_table(run, name) -> list[dict[str, str]]:
    with (run / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_tables_and_figures_of_the_statistics_are_written_in_every_form(whole):
    tables = {path.name for path in (whole / "tables").iterdir()}
    assert tables >= {f"{name}.{kind}" for name in TABLES for kind in ("csv", "tex")}
    figures = {path.name for path in (whole / "figures").iterdir()}
    assert figures >= {
        f"{name}.{kind}"
        for name in ("reliability", "learning_curve")
        for kind in ("svg", "pdf", "png")
    }


def test_the_answer_says_chance_and_nested_cross_validation(text):
    answer = text[text.index("The answer") : text.index("Images and patients")]
    for said in ("shuffled 1,999 times", "0.29 to 0.47", "p < 0.001", "0.73", "0.60 to 0.85"):
        assert said in answer
    assert f"{CHOSEN} (4)" in answer


def test_comparisons_carry_p_and_the_p_to_cite(whole, text):
    assert "p (Holm): corrected for the number of comparisons" in text
    rows = {row["model"]: row for row in read_table(whole, "choice")}
    assert rows[CHOSEN]["p_value"] == ""
    assert float(rows["tf_efficientnet_lite1-frozen"]["p_adjusted"]) == pytest.approx(0.3032)
    assert "p = 0.210 (paired permutation test, not corrected" in text


def test_predictive_values_say_at_which_prevalence(whole, run):
    rows = read_table(whole, "predictive_values")
    assert float(rows[0]["prevalence"]) == pytest.approx(16 / 53)
    assert (rows[0]["ppv"], rows[0]["npv_low"]) == ("0.77", "0.83")
    assert "Prevalence: as in this cohort" in read(run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    for scores in evaluation["chosen"]["classes"].values():
        scores["predictive_values"]["is_cohort_prevalence"] = False
    write_json(run / "evaluation.json", evaluation)
    assert "Prevalence: as stated by the user" in read(run)


def test_a_patients_scores_stand_beside_an_images(whole, text):
    rows = {row["measure"]: row for row in read_table(whole, "measures")}
    assert (rows["brier"]["by_image"], rows["brier"]["by_patient"]) == ("0.42", "0.8")
    assert "put together as their mean, which was settled before training" in text


def test_without_patients_of_several_images_there_is_one_column(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    del evaluation["patient_level"]
    write_json(run / "evaluation.json", evaluation)
    text = read(run)
    assert "By patient" not in text and "Some patients have several images" not in text
    assert "by_patient" not in read_table(run, "measures")[0]


def test_patients_of_several_labels_are_said_to_be_left_out_of_the_scores_by_patient(run):
    assert "images of several classes" not in read(run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    write_json(run / "evaluation.json", evaluation | {"patients_of_several_labels": 2})
    text = read(run)
    assert "Patients with images of several classes: 2 of 53." in text
    assert "several classes (2) kept their labels in this test" in text
    del evaluation["patient_level"]
    write_json(run / "evaluation.json", evaluation | {"patients_of_several_labels": 2})
    text = read(run)
    assert "No scores by patient are given: 2 of 53 patients have images" in text
    assert "By patient" not in text


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (interval(0.08, 0.03), "no larger than that"),
        (interval(0.11, 0.11), "cannot tell the calibration from a perfect one"),
        (interval(0.21, 0.06), "should not be taken at their word"),
    ],
)
def test_calibration_is_judged_against_a_perfect_model_of_so_few_images(run, error, verdict):
    after = json.loads((run / "evaluation.json").read_text())["calibration"]["after"]
    change_evaluation(run, "calibration", after=after | {"error": error})
    text = read(run)
    assert "With only 53 images this error is never zero" in text
    assert "a perfectly calibrated model would show 0.09 by chance alone" in text
    assert verdict in text


def test_prediction_sets_count_where_the_model_cannot_tell(whole, text):
    assert "held the true class in 91 % of images (95 % interval 84 % to 98 %" in text
    assert "In 12 images (23 %) the model could not tell: several classes in 11, none in 1" in text
    assert [row["cannot_tell"] for row in read_table(whole, "prediction_sets")][-1] == "12"


def test_sets_that_do_not_keep_their_promise_are_said_to(run):
    assert "the promise was not kept" not in read(run)
    change_evaluation(run, "prediction_sets", coverage=interval(0.7, 0.1))
    assert "the promise was not kept" in read(run)


def test_false_alarms_are_counted(text):
    assert "6 % were flagged by mistake (95 % interval 1 % to 11 %)" in text
    assert "3 of 53 images" in text


def test_the_forecast_is_said_for_twice_and_four_times_the_patients(text):
    assert "With 2 times the patients (106) the expected balanced accuracy is 0.83" in text
    assert "With 4 times the patients (212)" in text and "about 0.10 wide" in text


def test_predicted_and_real_seconds_stand_side_by_side(whole, text):
    row = next(row for row in read_table(whole, "cost") if row["model"] == CHOSEN)
    assert (row["predicted_seconds"], row["seconds"]) == ("38.2", "41.3")
    assert "Models that the time limit left no room for" in text
    assert "tf_efficientnet_lite2-full" in text
    last = read_table(whole, "cost")[-1]
    assert (last["model"], last["predicted_seconds"], last["seconds"]) == (
        "study",
        "431.7",
        "412.6",
    )
    assert "The whole study" in text


def test_what_takes_less_than_a_second_is_told_as_just_that():
    table = Table("t", "", "", [Column("s", "s")], [[Duration(0.31)], [Duration(41.3)]])
    assert table.to_text(Words.load("en")) == [["< 1"], ["41"]]
    assert table.to_csv().split() == ["s", "0.31", "41.3"]


@pytest.mark.parametrize("is_passed", [True, False])
def test_heatmaps_that_fail_the_sanity_check_are_labelled_so(run, is_passed):
    write_explanations(run, is_passed)
    text = read(run)
    assert ("The heatmaps pass this check" in text) is is_passed
    labels = 0 if is_passed else 1 + len(json.loads((run / "examples.json").read_text()))
    assert text.count("Failed the sanity check") == labels


def test_heatmaps_that_could_not_be_tested_are_said_to_be_untested(run):
    change_json(run / "explanations.json", sanity=None, localisation=None)
    text = read(run)
    assert "take them as untested" in text
    assert "take them as untested" in (run / "model-card.md").read_text()
    assert "the cohort has no lesion masks" in text
    assert "Failed the sanity check" not in text


@pytest.mark.parametrize("missing", OPTIONAL)
def test_each_statistic_is_optional(run, missing):
    evaluation = json.loads((run / "evaluation.json").read_text())
    del evaluation[missing]
    write_json(run / "evaluation.json", evaluation)
    assert "The answer" in read(run)


def test_a_run_without_any_of_it_has_no_empty_section(run, tmp_path):
    text = read(write_run(tmp_path / "plain"))
    for title in ("Can the probabilities", "Images that do not", "Would more", "Were the heatmaps"):
        assert title not in text


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("calibration", {"temperature": "warm"}, "calibration: temperature"),
        ("learning_curve", {"forecast": [{"factor": 2}]}, r"forecast\[0\] lacks"),
        ("prediction_sets", {"coverage": None}, "coverage"),
    ],
)
def test_a_statistic_of_another_shape_is_named(run, name, fields, told):
    change_evaluation(run, name, **fields)
    with pytest.raises(StudyError, match=rf"evaluation\.json: .*{told}"):
        render(run)


def test_a_heatmap_test_of_another_shape_is_named(run):
    change_json(run / "explanations.json", sanity={"passed": True})
    with pytest.raises(StudyError, match=r"explanations\.json: sanity lacks"):
        render(run)


@pytest.mark.parametrize("language", ["en", "id"])
def test_figures_of_unknown_intervals_can_be_drawn(whole, language):
    words, evaluation = Words.load(language), RunFolder(whole).evaluation
    curve = json.loads((whole / "evaluation.json").read_text())["learning_curve"]
    unknown = {"value": None, "low": None, "high": None}
    curve["points"][0]["balanced_accuracy"] = unknown
    curve["curve"][0]["balanced_accuracy"] = unknown
    curve["forecast"][1]["balanced_accuracy"] = {**unknown, "value": 0.9}
    curve = convert(LearningCurve, curve)
    figure = draw_learning_curve(curve, 3, words)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"2×: {words.number(0.83)}", f"4×: {words.number(0.9)}"]
    assert render_figure(figure, "png").startswith(b"\x89PNG")
    reliability = draw_reliability(evaluation.calibration, words)
    assert render_figure(reliability, "svg").startswith(b"<?xml")
    assert reliability.axes[0].get_xlabel() == words("reliability.confidence_axis")

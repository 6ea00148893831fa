"""What the report stage promises: one safe, self-contained page, the same bytes every time.

Statistics, checklists and languages have their own files beside this one.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from meninx.errors import OutputError, StudyError
from meninx.language import Message
from meninx.language.words import LANGUAGES
from meninx.report import Words, draw_matrix, render, render_figure
from meninx.report.figures.style import spread
from meninx.report.latex import SIGN_DEFINITION, escape_latex
from meninx.report.table import Column, Table
from meninx.report.tables import make_tables
from meninx.results import RunFolder, convert
from meninx.results.evaluation import Interval
from meninx.results.schema import MatrixFile
from tests.finished_runs import (
    BASELINES,
    CANDIDATES,
    CHOSEN,
    CLASSES,
    HOSTILE,
    Reader,
    change_json,
    contents,
    say,
    write_json,
    write_run,
    write_statistics,
)

FIGURES = {"matrix", "similarity_profile", "scores", "confusion", "roc", "training"}
TABLES = {"scores", "classes", "confusion", "cohort", "plan"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A rendered run in English, to look at and not to change."""
    run = write_run(tmp_path_factory.mktemp("report") / "run")
    assert render(run) == run / "report.html"
    return run


@pytest.fixture(scope="module")
def page(finished) -> str:
    return (finished / "report.html").read_text()


@pytest.fixture
def run(tmp_path) -> Path:
    """A run that has not been rendered, to damage."""
    return write_run(tmp_path / "run")


@pytest.fixture
def without_figures(monkeypatch):
    """Leave the figures out where a test is about the page alone: they take the time."""
    monkeypatch.setattr("meninx.report.rendering.render_figure", lambda figure, kind: b"<svg/>")


# What is written


def test_every_figure_and_table_is_written_in_every_form(finished):
    figures = {path.name for path in (finished / "figures").iterdir()}
    assert figures == {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "pdf", "png")}
    tables = {path.name for path in (finished / "tables").iterdir()}
    assert tables >= {f"{name}.{kind}" for name in TABLES for kind in ("csv", "tex")}
    assert all(content for content in contents(finished).values())
    signatures = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    for path in (finished / "figures").iterdir():
        assert path.read_bytes().startswith(signatures[path.suffix])


def test_figures_are_300_dots_an_inch(finished):
    for path in (finished / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_another_process_renders_the_same_bytes_without_torch_or_the_study(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    for folder in ("figures", "tables"):
        shutil.rmtree(again / folder)
    script = (
        "import sys; from pathlib import Path; from meninx.report import render;"
        f"render(Path({str(again)!r}));"
        "print([m for m in ('torch', 'meninx.study', 'meninx.cohort') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
    assert contents(again) == contents(finished)


def test_a_failed_write_leaves_the_old_page_whole(run, without_figures, monkeypatch):
    path = render(run)
    before = contents(run)
    change_json(run / "summary.json", seed=8)

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("meninx.files.os.fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        render(run)
    assert path.read_bytes() == before["report.html"]
    assert contents(run).keys() == before.keys()


# What the page says


def test_the_page_loads_nothing_and_runs_nothing(page):
    reader = Reader(page)
    assert not reader.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    sections = {target for target in reader.targets if target.startswith("#")}
    assert sections and all(f'id="{target[1:]}"' in page for target in sections)
    beside = set(reader.targets) - sections
    beside -= {target for target in beside if target.startswith("data:image/")}
    assert beside == {"checklist-claim.html", "checklist-tripod.html"}
    assert "http://" not in page and "https://" not in page
    assert "url(" not in page and "@import" not in page


def test_the_page_begins_with_the_answer(page):
    text = Reader(page).text
    assert "Research software, not a medical device" in text
    answer = text[text.index("The answer") : text.index("Images and patients")]
    for said in ("0.74", "0.61 to 0.86", "53 images", "0.33", "tf_efficientnet_lite0", "stage4"):
        assert said in answer
    assert "0.79 (95 % interval 0.68 to 0.90)" in answer  # the naive score, named as such
    assert "too hopeful" in answer
    assert "7 folds were asked for and 5 were used" in answer
    assert "S-0003, S-0009" in answer  # what the audit found


def test_the_audit_names_a_few_images_and_counts_the_others(run, without_figures):
    small = say("advice", Message("small", count=53))
    findings = [
        {"kind": "small", "severity": "info", "files": names, **small}
        for names in ([f"S-{n:04x}" for n in range(53)], [f"S-{n:04x}" for n in range(20)])
    ]
    write_json(run / "audit.json", {"findings": findings})
    text = Reader(render(run).read_text()).text
    assert "Audit of the images" in text
    assert "Images: all 53" in text and "S-0034" not in text
    assert "Images (20): S-0000, S-0001" in text and "S-0007 and 12 more" in text


def test_sections_stand_in_their_order(page):
    text = Reader(page).text
    titles = [
        "The answer", "To know before", "Images and patients", "Size and similarity", "The plan",
        "Scores of all models", "Which class was taken", "Each class against", "Examples, right",
        "How it was done", "Limits",
    ]  # fmt: skip
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_an_interval_that_reaches_down_to_guessing_is_said(run, without_figures):
    assert "The whole interval lies above guessing" in render(run).read_text()
    headline = {"balanced_accuracy": 0.41, "low": 0.30, "high": 0.55}
    change_json(run / "summary.json", headline=headline)
    page = render(run).read_text()
    assert "this study does not show that the images tell the class" in page
    assert "The whole interval lies above guessing" not in page


@pytest.mark.parametrize("is_synthetic", [True, False])
def test_the_banner_stands_only_over_synthetic_data(run, without_figures, is_synthetic):
    change_json(run / "summary.json", synthetic=is_synthetic)
    assert ("SYNTHETIC DATA" in render(run).read_text()) is is_synthetic


def test_unknown_patients_are_a_limit(run, without_figures):
    sentence = "Which images are of one patient is not known"
    assert sentence in render(run).read_text()
    change_json(run / "summary.json", patients_known=True)
    page = render(run).read_text()
    assert sentence not in page
    assert "53 images of 53 patients" in page


def test_candidates_stand_from_the_best_down_and_baselines_after_them(finished):
    with (finished / "tables" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_score = sorted(CANDIDATES, key=lambda model: -CANDIDATES[model][0])
    assert [row["model"] for row in rows[: len(CANDIDATES)]] == by_score
    assert {row["model"] for row in rows[len(CANDIDATES) :]} == set(BASELINES)
    first = rows[0]
    assert (first["strategy"], first["role"]) == ("partial", "candidate")
    shown = [float(first[f"balanced_accuracy{end}"]) for end in ("", "_low", "_high")]
    assert shown == [0.79, 0.68, 0.90]
    assert next(row["auc"] for row in rows if row["model"] == "majority") == ""


def test_no_fingerprint_reaches_the_page(page):
    assert f"{3:064x}" not in page


def test_examples_are_optional(run, without_figures):
    assert "Examples, right and wrong" in render(run).read_text()
    (run / "examples.json").unlink()
    shutil.rmtree(run / "examples")
    assert "Examples, right and wrong" not in render(run).read_text()


def test_a_score_that_cannot_be_computed_is_a_dash(run, without_figures):
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["chosen"]["classes"]["lm"]["auc"] = {"value": None, "low": None, "high": None}
    evaluation["chosen"]["classes"]["normal"]["auc"] = {"value": float("nan"), "low": 0, "high": 1}
    evaluation["chosen"]["confusion"][0] = [0, 0, 0]
    write_json(run / "evaluation.json", evaluation)
    render(run)
    with (run / "tables" / "classes.csv").open() as file:
        assert next(csv.DictReader(file))["auc"] == ""
    assert "nan" not in Reader((run / "report.html").read_text()).text.lower().split()


# Hostile and broken input


def test_hostile_names_are_text_everywhere(tmp_path):
    run = write_run(tmp_path / "run", dict(zip(HOSTILE, CLASSES.values(), strict=True)))
    page = render(run).read_text()
    reader = Reader(page)
    assert "script" not in reader.tags
    assert all(name in reader.text for name in HOSTILE)
    for path in (run / "tables").glob("*.tex"):
        text = path.read_text()
        assert "50%_a&b" not in text
    assert r"50\%\_a\&b" in (run / "tables" / "classes.tex").read_text()
    for path in (run / "figures").glob("*.svg"):
        assert "<script" not in path.read_text()


@pytest.mark.parametrize(
    "name",
    ["summary.json", "matrix.json", "plan.json", "scores.csv", "evaluation.json", "cohort.csv",
     "audit.json"],
)  # fmt: skip
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(StudyError, match=re.escape(name)):
        render(run)
    assert not (run / "report.html").exists()


def test_a_run_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(StudyError, match="absent"):
        render(tmp_path / "absent")


def test_a_missing_field_is_named(run):
    summary = json.loads((run / "summary.json").read_text())
    del summary["headline"]["low"]
    write_json(run / "summary.json", summary)
    with pytest.raises(StudyError, match=r"summary\.json: headline lacks low"):
        render(run)


@pytest.mark.parametrize(
    "fields",
    [{"images": "53"}, {"synthetic": 1}, {"notes": "one"}, {"classes": [1]}, {"classes": {"a": {}}},
     {"seed": True}, {"headline": {"balanced_accuracy": "0.7", "low": 0, "high": 1}}],
)  # fmt: skip
def test_a_field_of_another_type_is_named(run, fields):
    change_json(run / "summary.json", **fields)
    with pytest.raises(StudyError, match=rf"summary\.json: {next(iter(fields))}"):
        render(run)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("plan.json", "{", "not JSON"),
        ("scores.csv", "model,backbone\na,b\n", "lacks the columns"),
        ("cohort.csv", "sample,patient\n", "lacks the columns label"),
    ],
)
def test_a_broken_file_is_named(run, name, content, told):
    (run / name).write_text(content)
    with pytest.raises(StudyError, match=told) as raised:
        render(run)
    assert name in str(raised.value)


def test_a_score_that_is_no_number_is_named(run):
    scores = run / "scores.csv"
    scores.write_text(scores.read_text().replace("0.68", "high"))
    with pytest.raises(StudyError, match="balanced_accuracy_low is 'high'"):
        render(run)


def test_files_that_do_not_agree_are_refused(run):
    change_json(run / "summary.json", chosen="another-model")
    with pytest.raises(StudyError, match="another-model"):
        render(run)


@pytest.mark.parametrize("field", ["confusion", "roc"])
def test_a_chosen_model_that_does_not_fit_its_classes_is_refused(run, field):
    evaluation = json.loads((run / "evaluation.json").read_text())
    curve = {"false_positive_rate": [0, 1], "true_positive_rate": [0, 1]}
    evaluation["chosen"][field] = {"confusion": [[1, 2], [3, 4]], "roc": {"none": curve}}[field]
    write_json(run / "evaluation.json", evaluation)
    with pytest.raises(StudyError, match=r"evaluation\.json"):
        render(run)


def test_a_picture_outside_the_run_is_refused(run, without_figures):
    Image.new("L", (4, 4)).save(run.parent / "secret.png")
    examples = json.loads((run / "examples.json").read_text())
    examples[0]["image"] = "../secret.png"
    write_json(run / "examples.json", examples)
    with pytest.raises(StudyError, match="outside the run"):
        render(run)


def test_a_picture_that_is_no_png_is_refused(run, without_figures):
    next((run / "examples").iterdir()).write_text("<svg onload='alert(1)'/>")
    with pytest.raises(StudyError, match="not a PNG"):
        render(run)


def test_a_spreadsheet_runs_no_model_of_a_table():
    table = Table("t", "", "", [Column("name", "Name", align="left")], [["=1+1"], ["-a"], ["a"]])
    assert table.to_csv().splitlines() == ["name", "'=1+1", "'-a", "a"]


# LaTeX


def test_a_latex_table_can_stand_in_a_thesis(finished):
    text = (finished / "tables" / "scores.tex").read_text()
    for part in (
        r"\begin{table}",
        r"\caption{",
        r"\label{tab:meninx-scores}",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        "n = 53 images of 53 patients",
        r"95 \% interval",
    ):
        assert part in text  # fmt: skip
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in rows}) == 1
    assert len(rows) == 1 + len(CANDIDATES) + len(BASELINES)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@given(st.text(max_size=30))
@example("[a]*|&%$#_{}~^\\<>|\"'–")
def test_no_sign_of_latex_survives_escaping_and_only_ascii_does(text):
    escaped = escape_latex(text)
    assert escaped.isascii() and escaped.isprintable()
    assert escaped.count("{") - escaped.count(r"\{") == escaped.count("}") - escaped.count(r"\}")
    commands = r"\\[A-Za-z]+|\\[`'^~=.\"]|\\[&%$#_{}]"
    mathematics = r"\$-\$|\$\\[A-Za-z]+\$|\$\{\}\^\{\S+?\}\$"
    bare = re.sub(rf"{mathematics}|{commands}", "", escaped)
    assert not set(bare.replace("{", "").replace("}", "")) & set('&%$#_~^\\<>|"\n')
    assert "[" not in escaped.replace("{[}", "") and "*" not in escaped.replace("{*}", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ménière, naïve, Ł", r"M\'{e}ni\`{e}re, na\"{\i}ve, \L{}"),
        ("şüphe", r"\c{s}\"{u}phe"),
        ("bệnh", r"b\^{\d{e}}nh"),
        ("e\N{COMBINING ACUTE ACCENT}", r"\'{e}"),
        ("α-Λ ±2 µm", r"$\alpha$-$\Lambda$ $\pm$2 $\mu$m"),
        ("a\N{ZERO WIDTH SPACE}\x00b", "ab"),
        ("\N{CJK UNIFIED IDEOGRAPH-4E2D}", r"\meninxsign{20013}{U+4E2D}"),
        ("да", r"\meninxsign{1076}{U+0434}\meninxsign{1072}{U+0430}"),
    ],
)
def test_names_in_any_script_become_what_latex_can_set(text, expected):
    assert escape_latex(text) == expected


def test_a_latex_table_defines_the_command_for_signs_of_other_scripts_only_if_it_has_them():
    def write(label):
        columns = [Column("class", "Class", align="left")]
        return Table("t", "c", "n", columns, [[label]]).to_latex(Words.load("en"))

    assert write("\N{CJK UNIFIED IDEOGRAPH-4E2D}").count(SIGN_DEFINITION) == 1
    assert "meninxsign" not in write("Ménière").replace("tab:meninx", "")
    # A line's end would take what stands in brackets or a star after it for its options.
    assert not re.search(r"\\\\\s*[\[*]", write("[x]") + write("*x"))


def test_tables_of_a_run_are_ascii_whatever_its_classes_are_called(tmp_path, without_figures):
    run = write_run(
        tmp_path / "run", {"lm & \N{GREEK SMALL LETTER ALPHA}_1": 16, "中文": 22, "Ménière": 15}
    )
    render(run)
    for table in (run / "tables").glob("*.tex"):
        assert table.read_text().isascii()
    told = (run / "tables" / "classes.tex").read_text()
    assert r"lm \& $\alpha$\_1 &" in told and SIGN_DEFINITION in told
    assert r"\meninxsign{20013}{U+4E2D}\meninxsign{25991}{U+6587} &" in told


def test_counts_of_one_repeat_are_whole_and_means_of_several_are_not(run, without_figures):
    render(run)
    assert "11.2 (70" in (run / "tables" / "confusion.tex").read_text()
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["chosen"]["confusion"] = [[11, 4, 1], [2, 18, 2], [1, 3, 11]]
    write_json(run / "evaluation.json", evaluation)
    render(run)
    assert "11 (69" in (run / "tables" / "confusion.tex").read_text()


def test_a_single_candidate_is_not_said_to_have_been_chosen(run, without_figures):
    assert "the best of 6 candidates looks like" in Reader(render(run).read_text()).text
    lines = (run / "scores.csv").read_text().splitlines()
    kept = [line for line in lines if "candidate" not in line or line.startswith(CHOSEN)]
    (run / "scores.csv").write_text("\n".join(kept) + "\n")
    text = Reader(render(run).read_text()).text
    assert "Only one candidate was tried" in text and "looks like" not in text


def test_a_percent_sign_stays_in_the_line_of_its_number(page):
    assert "95\N{NO-BREAK SPACE}% interval" in page and " %" not in page


# What pdflatex can set with nothing but array and booktabs: its accents and its punctuation.
LATEX_LETTERS = {*map(chr, range(0xA1, 0x100)), *"–—‘’“”…"} - set("¤¦©¬\u00ad²³´·¸¹")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_latex_table_is_whole_and_holds_only_what_latex_can_set(tmp_path, language):
    classes = dict(zip((*HOSTILE[1:], "größe ≥ 5 mm"), (16, 22, 15), strict=True))
    folder = write_statistics(write_run(tmp_path / "run", classes), classes)
    tables = make_tables(RunFolder.read(folder), Words.load(language))
    assert len(tables) > 15
    for name, table in tables.items():
        text = table.to_latex(Words.load(language))
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1, name
        assert len(rows) == 1 + len(table.rows), name
        assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text)), name
        assert {sign for sign in text if ord(sign) > 126} <= LATEX_LETTERS, name
        assert text.count("$") % 2 == text.count(r"\$") % 2, name


# Figures


@pytest.mark.parametrize(
    ("quadrant", "per_class", "kl"),
    [
        ("Q1", 9_000, 0.3),
        ("Q1", 1_200, 0.9),
        ("Q2", 60_000, 0.012),
        ("Q3", 4.0, 1.46),
        ("Q4", 800, 0.05),
    ],
)
def test_the_matrix_shows_a_cohort_in_its_quadrant(run, quadrant, per_class, kl):
    matrix = json.loads((run / "matrix.json").read_text())
    matrix["quadrant"] = quadrant
    matrix["size"]["per_class"] = per_class
    matrix["similarity"] |= {"kl": kl, "low": 0.9 * kl, "high": 1.1 * kl}
    del matrix["references"]
    figure = draw_matrix(convert(MatrixFile, matrix), Words.load("en"))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    across, up = axes.transAxes.inverted().transform(axes.transData.transform((kl, per_class)))
    assert (across > 0.5, up > 0.5) == {
        "Q1": (True, True), "Q2": (False, True), "Q3": (True, False), "Q4": (False, False),
    }[quadrant]  # fmt: skip
    strong = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
    assert [name.split()[0] for name in strong] == [quadrant]
    frame = axes.get_window_extent().padded(2)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)
    border = axes.transData.transform((1, matrix["size"]["threshold"]))[1]
    cohort = next(text for text in axes.texts if "this cohort" in text.get_text())
    assert not cohort.get_window_extent().y0 < border < cohort.get_window_extent().y1
    overlaps = [
        (one, other)
        for number, one in enumerate(boxes)
        for other in boxes[number + 1 :]
        if one.overlaps(other)
    ]
    assert overlaps == []


def test_the_matrix_can_be_drawn_without_a_run(run):
    figure = draw_matrix(RunFolder(run).matrix, Words.load("id"))
    labels = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "chest X-ray" in labels and "17,7 citra per kelas" in labels
    assert render_figure(figure, "png").startswith(b"\x89PNG")


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted),
    st.floats(0.01, 0.2),
)
def test_crowded_labels_are_spread_in_their_order(positions, gap):
    moved = spread(positions, gap)
    assert len(moved) == len(positions)
    assert all(after - before >= gap - 1e-9 for before, after in pairwise(moved))
    if all(after - before > gap for before, after in pairwise(positions)):
        assert moved == positions


def test_estimates_are_written_with_their_interval():
    words = Words.load("en")
    assert words.estimate(*Interval(0.742, 0.61, 0.862)) == "0.74 (0.61 to 0.86)"
    assert words.estimate(*Interval(0.742, None, None)) == "0.74"


SAME_MODEL = {"model": "a", "best": "a", "difference": {"value": 0.0, "low": 0.0, "high": 0.0}}
REACHES_0 = {"model": "a", "best": "b", "difference": {"value": -0.04, "low": -0.1, "high": 0.0}}
BELOW_0 = {"model": "a", "best": "b", "difference": {"value": -0.2, "low": -0.3, "high": -0.1}}


@pytest.mark.parametrize(
    ("advice", "sentence"),
    [
        (SAME_MODEL, "also the best"),
        (REACHES_0, "cannot tell"),
        (BELOW_0, "not the best"),
        (REACHES_0 | {"p_value": 0.007}, "do not agree"),
        (BELOW_0 | {"p_value": 0.06}, "do not agree"),
        (REACHES_0 | {"p_value": 0.05}, "cannot tell"),
    ],
)
def test_the_page_says_whether_the_advice_held(run, without_figures, advice, sentence):
    evaluation = json.loads((run / "evaluation.json").read_text())
    write_json(run / "evaluation.json", {**evaluation, "advice": advice})
    page = render(run).read_text()
    assert "Did the advice hold?" in page and sentence in page


def test_the_page_says_nothing_of_advice_that_was_not_tried(run, without_figures):
    assert "advice" not in json.loads((run / "evaluation.json").read_text())
    assert "Did the advice hold?" not in render(run).read_text()

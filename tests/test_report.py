"""What the report stage promises: one safe, self-contained page, the same bytes every time."""

import ast
import csv
import json
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import meninx.report
from meninx.errors import OutputError, StudyError
from meninx.report import Words, draw_matrix, render, render_figure
from meninx.report.figures.style import spread
from meninx.report.language import LANGUAGES, format_number
from meninx.report.table import Column, Estimate, Table, escape_latex

CLASSES = {"lm": 16, "leukemia": 22, "normal": 15}
STAGES = {"stem": 1, "stage1": 3, "stage2": 9, "stage3": 9, "stage4": 18, "stage5": 9}
KL_OF_STAGE = {
    "stem": 0.44, "stage1": 0.11, "stage2": 0.06, "stage3": 0.055, "stage4": 0.08, "stage5": 0.20,
}  # fmt: skip
CANDIDATES = {  # cell: balanced accuracy, low, high
    "tf_efficientnet_lite0-partial-stage4": (0.79, 0.68, 0.90),
    "tf_efficientnet_lite1-partial-stage4": (0.77, 0.65, 0.88),
    "tf_efficientnet_lite0-frozen": (0.72, 0.59, 0.83),
    "tf_efficientnet_lite2-partial-stage4": (0.75, 0.63, 0.86),
    "tf_efficientnet_lite1-frozen": (0.70, 0.58, 0.82),
    "tf_efficientnet_lite2-frozen": (0.69, 0.56, 0.81),
}
BASELINES = {
    "majority": (0.333, 0.333, 0.333),
    "tf_efficientnet_lite0-scratch": (0.41, 0.29, 0.53),
    "histogram": (0.47, 0.35, 0.60),
}
FIGURES = {"matrix", "similarity_profile", "scores", "confusion", "roc"}
TABLES = {"scores", "classes", "confusion", "cohort", "plan"}
HOSTILE = ("<script>alert(1)</script>", "50%_a&b", "$x^{")


def interval(value, half_width):
    return {
        "value": value, "low": max(0.0, value - half_width), "high": min(1.0, value + half_width),
    }  # fmt: skip


def backbone_of(cell):
    return cell.split("-")[0] if "-" in cell else ""


def strategy_of(cell):
    return cell.split("-")[1] if "-" in cell else cell


def cut_of(cell):
    return {"partial": "stage4", "frozen": "head", "scratch": "stem"}.get(strategy_of(cell))


def write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def change_json(path: Path, **fields) -> None:
    write_json(path, json.loads(path.read_text()) | fields)


def write_csv(path: Path, columns, rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_summary(run: Path, classes) -> None:
    images = sum(classes.values())
    summary = {
        "chosen": "tf_efficientnet_lite0-partial-stage4",
        "headline": {"balanced_accuracy": 0.742, "low": 0.61, "high": 0.862},
        "naive": {"balanced_accuracy": 0.79, "low": 0.68, "high": 0.90},
        "images": images, "patients": images, "seconds": 412.6, "seed": 7,
        "versions": {"meninx": "0.1.0", "torch": "2.14.1", "timm": "1.0.31"},
        "synthetic": False, "patients_known": False, "classes": classes,
        "folds": 5, "repeats": 5,
        "notes": ["Patients are not named, so each image is taken as its own patient."],
    }  # fmt: skip
    write_json(run / "summary.json", summary)


def write_matrix(run: Path, classes) -> None:
    random = np.random.default_rng(0)
    images = sum(classes.values())
    layers = [
        {
            "name": f"{stage}.{number}", "stage": stage,
            "kl": float(KL_OF_STAGE[stage] * random.lognormal(0, 0.3)),
        }
        for stage, count in STAGES.items()
        for number in range(count)
    ]  # fmt: skip
    matrix = {
        "images": images, "patients": images, "classes": classes,
        "similarity": {
            "kl": 0.113, "low": 0.104, "high": 0.131, "threshold": 0.06, "layers": layers,
        },
        "size": {"per_class": images / len(classes), "border": 1000},
        "quadrant": "Q3",
        "advice": {
            "strategy": "partial", "cut": "stage4",
            "reasons": [
                "17.7 images per class are fewer than 1,000.",
                "The images are farther from ImageNet (0.113) than the threshold (0.06).",
            ],
        },
        "backbones": [
            {"name": f"tf_efficientnet_lite{n}", "logme": -0.61 - n / 50, "probe": 0.72 - n / 60,
             "milliseconds": 6.5 + 4 * n}
            for n in range(3)
        ],
        "references": [
            {"name": "ImageNet, 50 images", "kl": 0.010},
            {"name": "natural photographs", "kl": 0.023},
            {"name": "grey textures", "kl": 0.08},
            {"name": "chest X-ray", "kl": 0.134},
            {"name": "white noise", "kl": 0.63},
        ],
    }  # fmt: skip
    write_json(run / "matrix.json", matrix)


def write_cells(run: Path, images) -> None:
    cells = {cell: "candidate" for cell in CANDIDATES} | {cell: "baseline" for cell in BASELINES}
    plan = [
        {
            "cell": cell, "backbone": backbone_of(cell) or None, "strategy": strategy_of(cell),
            "cut": cut_of(cell), "role": role, "folds": 5, "repeats": 5,
            "reason": "advice of the matrix" if "partial" in cell else "for comparison",
            "trained_parameters": 2_650_000 if "partial" in cell else 3843,
        }
        for cell, role in cells.items()
    ]  # fmt: skip
    write_json(run / "plan.json", {"cells": plan})
    columns = [
        "cell", "backbone", "strategy", "cut", "role", "balanced_accuracy",
        "balanced_accuracy_low", "balanced_accuracy_high", "macro_f1", "auc", "log_loss", "seconds",
    ]  # fmt: skip
    scores = CANDIDATES | BASELINES
    write_csv(
        run / "scores.csv",
        columns,
        [
            [cell, backbone_of(cell), strategy_of(cell), cut_of(cell), role, *scores[cell],
             scores[cell][0] - 0.01, "" if cell == "majority" else scores[cell][0] + 0.1,
             1.2 - scores[cell][0], 41.3]
            for cell, role in cells.items()
        ],
    )  # fmt: skip
    names = ("balanced_accuracy", "macro_f1", "sensitivity", "specificity", "auc", "log_loss")
    return {
        cell: {
            "repeats": 5,
            "scores": {name: interval(scores[cell][0], 0.1) for name in names},
        }
        for cell in cells
    }


def write_evaluation(run: Path, classes, cells) -> None:
    labels = list(classes)
    sensitivity = dict(zip(labels, (0.70, 0.82, 0.71), strict=True))
    per_class = {
        label: {
            "images": count, "patients": count,
            "sensitivity": interval(sensitivity[label], 0.19),
            "specificity": interval(0.88, 0.08),
            "auc": interval(0.84 + number / 40, 0.09),
        }
        for number, (label, count) in enumerate(classes.items())
    }  # fmt: skip
    rates = np.linspace(0, 1, 41)
    roc = {
        label: {
            "false_positive_rate": rates.tolist(),
            "true_positive_rate": (np.round(rates ** (0.2 + number / 10) * 16) / 16).tolist(),
        }
        for number, label in enumerate(labels)
    }
    confusion = [[11.2, 3.6, 1.2], [1.8, 18.0, 2.2], [1.4, 3.0, 10.6]]
    chosen = "tf_efficientnet_lite0-partial-stage4"
    evaluation = {
        "cells": cells,
        "chosen": {"cell": chosen, "classes": per_class, "confusion": confusion, "roc": roc},
        "selection": dict(zip(CANDIDATES, (0.48, 0.27, 0.06, 0.13, 0.04, 0.02), strict=True)),
        "comparisons": [
            {"cell": chosen, "against": cell, "difference": 0.79 - value, "low": 0.79 - value - 0.1,
             "high": 0.79 - value + 0.11}
            for cell, (value, _, _) in (CANDIDATES | BASELINES).items()
            if cell != chosen
        ],
    }  # fmt: skip
    write_json(run / "evaluation.json", evaluation)


def write_examples(run: Path, classes) -> None:
    labels = list(classes)
    (run / "examples").mkdir(parents=True)
    examples = []
    for number, predicted in enumerate([labels[0], labels[1], labels[1], labels[0]]):
        sample, label = f"S-{number:04x}", labels[number % 2]
        for kind in ("image", "heatmap"):
            Image.new("RGB", (32, 32), (90, 90, 90 + 40 * number)).save(
                run / "examples" / f"{sample}-{kind}.png"
            )
        examples.append(
            {
                "sample": sample, "label": label, "predicted": predicted,
                "probabilities": {
                    name: 0.7 if name == predicted else 0.15 for name in labels
                },
                "right": label == predicted,
                "image": f"examples/{sample}-image.png",
                "heatmap": f"examples/{sample}-heatmap.png",
            }
        )  # fmt: skip
    write_json(run / "examples.json", examples)


def write_run(run: Path, classes=CLASSES) -> Path:
    """Write a complete run folder with numbers of a plausible study."""
    run.mkdir(parents=True)
    write_summary(run, classes)
    write_matrix(run, classes)
    write_evaluation(run, classes, write_cells(run, sum(classes.values())))
    labels = [label for label, count in classes.items() for _ in range(count)]
    write_csv(
        run / "cohort.csv",
        ["sample", "patient", "label", "fingerprint", "fold"],
        [[f"S-{n:04x}", f"P-{n:04x}", label, f"{n:064x}", n % 5] for n, label in enumerate(labels)],
    )
    findings = [
        {
            "kind": "small", "severity": "info", "files": [],
            "advice": "53 images: one image moves a score by about 2 points.",
        },
        {
            "kind": "exact-duplicates", "severity": "warning", "files": ["S-0003", "S-0009"],
            "advice": "The same pixels twice; they are kept on one side of every split.",
        },
    ]  # fmt: skip
    write_json(run / "audit.json", {"findings": findings})
    write_examples(run, classes)
    return run


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


class Reader(HTMLParser):
    """What a browser would see: text, tags and everything a page may load or follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.texts.append(data)


def contents(run: Path) -> dict[str, bytes]:
    made = [run / "report.html", *(run / "figures").iterdir(), *(run / "tables").iterdir()]
    return {str(path.relative_to(run)): path.read_bytes() for path in made}


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
        capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"},
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
    assert reader.targets
    assert all(target.startswith("data:image/") for target in reader.targets)
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
    assert "each image is taken as its own patient" in answer
    assert "S-0003, S-0009" in answer  # what the audit found


def test_sections_stand_in_their_order(page):
    text = Reader(page).text
    titles = [
        "The answer", "To know before", "Images and patients", "Size and similarity", "The plan",
        "Scores of all cells", "Which class was taken", "Each class against", "Examples, right",
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
    by_score = sorted(CANDIDATES, key=lambda cell: -CANDIDATES[cell][0])
    assert [row["cell"] for row in rows[: len(CANDIDATES)]] == by_score
    assert {row["cell"] for row in rows[len(CANDIDATES) :]} == set(BASELINES)
    first = rows[0]
    assert (first["strategy"], first["role"]) == ("partial", "candidate")
    shown = [float(first[f"balanced_accuracy{end}"]) for end in ("", "_low", "_high")]
    assert shown == [0.79, 0.68, 0.90]
    assert next(row["auc"] for row in rows if row["cell"] == "majority") == ""


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
        ("scores.csv", "cell,backbone\na,b\n", "lacks the columns"),
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
    change_json(run / "summary.json", chosen="another-cell")
    with pytest.raises(StudyError, match="another-cell"):
        render(run)


@pytest.mark.parametrize("field", ["confusion", "roc"])
def test_a_chosen_cell_that_does_not_fit_its_classes_is_refused(run, field):
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


def test_a_spreadsheet_runs_no_cell_of_a_table():
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


@given(st.text(st.sampled_from("ab &%$#_{}~^\\<>|\"'–\n"), max_size=30))
def test_no_sign_of_latex_survives_escaping(text):
    escaped = escape_latex(text)
    bare = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]|", "", escaped)
    assert not set(bare) & set("&%$#_{}~^\\<>|\n")


# Language


def keys_asked_for() -> Iterator[str]:
    """Find every key in a call of `words(…)`, in code and in templates."""
    folder = Path(meninx.report.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("words", "self") and node.args:
                yield from (
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )
    for path in folder.rglob("*.j2"):
        for argument in re.findall(r"words\(([^,)]*)", path.read_text()):
            yield from re.findall(r"[\"']([\w.]+)[\"']", argument)


def sections_asked_for() -> set[str]:
    """Find every section whose keys come from a run's files, in a call of `words.name(…)`."""
    folder = Path(meninx.report.__file__).parent
    sources = [*folder.rglob("*.py"), *folder.rglob("*.j2")]
    return {
        section
        for path in sources
        for section in re.findall(r"words\.name\(\s*[\"'](\w+)[\"']", path.read_text())
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_asked_for_is_there_and_none_stands_idle(language):
    there, asked = set(Words.load(language).sentences), set(keys_asked_for())
    assert len(asked) > 100
    assert asked - there == set()
    idle = {key for key in there - asked if key.split(".")[0] not in sections_asked_for()}
    assert idle == set()


def test_languages_have_the_same_sentences_with_the_same_placeholders():
    catalogues = [Words.load(language).sentences for language in LANGUAGES]

    def placeholders(sentence):
        return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}

    english, *others = [
        {key: placeholders(sentence) for key, sentence in sentences.items()}
        for sentences in catalogues
    ]
    for other in others:
        assert other == english
    same = [key for key, text in catalogues[0].items() if catalogues[1][key] == text]
    untranslatable = {"number.percent", "page.kicker", "confusion.row_total", "matrix.advice",
                      "notes.affected"}  # fmt: skip
    assert {key for key in same if not key.startswith(("column.", "trains."))} <= untranslatable


def test_the_page_speaks_indonesian(tmp_path):
    run = write_run(tmp_path / "run")
    change_json(run / "summary.json", synthetic=True)
    page = render(run, language="id").read_text()
    assert '<html lang="id">' in page
    text = Reader(page).text
    for said in (
        "DATA SINTETIS",
        "bukan alat kesehatan",
        "akurasi seimbang 0,74",
        "selang kepercayaan 95 %: 0,61 hingga 0,86",
        "53 citra",
        "lipatan",
    ):
        assert said in text  # fmt: skip
    assert "balanced accuracy" not in text.lower()
    table = (run / "tables" / "scores.tex").read_text()
    assert "0,79 (0,68 hingga 0,90)" in table
    assert "0.79" in (run / "tables" / "scores.csv").read_text()  # data keep the dot


def test_another_language_is_refused(run):
    with pytest.raises(StudyError, match="'de'; choose one of en, id"):
        render(run, language="de")


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_a_number_means_the_same_in_both_languages(value, decimals):
    english = format_number(value, "en", decimals)
    swapped = format_number(value, "id", decimals).translate(str.maketrans(",.", ".,"))
    assert english == swapped
    assert float(english.replace(",", "").replace("−", "-")) == pytest.approx(
        value, abs=0.51 * 10**-decimals
    )
    assert not re.fullmatch(r"−0(\.0*)?", english)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_no_number_is_a_dash(value):
    assert format_number(value, "en") == "–"
    assert Words.load("en").percent(value) == "–"


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
    figure = draw_matrix(matrix, Words.load("en"))
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
    border = axes.transData.transform((1, matrix["size"]["border"]))[1]
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
    figure = draw_matrix(json.loads((run / "matrix.json").read_text()), Words.load("id"))
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
    assert words.estimate(*Estimate(0.742, 0.61, 0.862)) == "0.74 (0.61 to 0.86)"
    assert words.estimate(*Estimate(0.742, None, None)) == "0.74"


@pytest.mark.parametrize(
    ("advice", "sentence"),
    [
        ({"cell": "a", "best": "a", "difference": 0.0, "low": 0.0, "high": 0.0}, "also the best"),
        ({"cell": "a", "best": "b", "difference": -0.04, "low": -0.1, "high": 0.0}, "cannot tell"),
        ({"cell": "a", "best": "b", "difference": -0.2, "low": -0.3, "high": -0.1}, "not the best"),
    ],
)
def test_the_page_says_whether_the_advice_held(run, advice, sentence):
    evaluation = json.loads((run / "evaluation.json").read_text())
    write_json(run / "evaluation.json", {**evaluation, "advice": advice})
    page = render(run).read_text()
    assert "Did the advice hold?" in page and sentence in page


def test_the_page_says_nothing_of_advice_that_was_not_tried(run):
    assert "advice" not in json.loads((run / "evaluation.json").read_text())
    assert "Did the advice hold?" not in render(run).read_text()

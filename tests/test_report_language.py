"""What the report promises of its languages: every sentence in each, numbers as each has them."""

import ast
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image, ImageOps

import meninx.report
from meninx.cohort import Cohort, Severity, audit
from meninx.cohort.appearance import TAGS, measure_appearance
from meninx.errors import StudyError
from meninx.finetune import Strategy
from meninx.matrix.advice import Thresholds, advise
from meninx.matrix.references import load_references
from meninx.report import Words, render
from meninx.report.language import LANGUAGES, format_number
from meninx.study.plan import ENSEMBLE
from meninx.study.runner import explain_left_out
from meninx.study.study import _explain_folds
from tests.finished_runs import (
    Reader,
    change_json,
    choose_ensemble,
    write_json,
    write_run,
    write_statistics,
)

# Words that no Indonesian sentence has, and hardly any English one is without.
ENGLISH_WORDS = {
    "the", "an", "of", "and", "or", "to", "in", "is", "are", "was", "were", "be", "it", "its",
    "that", "this", "with", "by", "for", "from", "on", "as", "not", "no", "than", "which",
    "each", "all", "if", "has", "have", "images", "image", "patients", "network",
}  # fmt: skip


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
    by_name = {*sections_asked_for(), "told", "term"}  # for both see the tests of retelling
    idle = {key for key in there - asked if key.split(".")[0] not in by_name}
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
    untranslatable = {
        "number.percent", "number.below", "number.p_equals", "number.p_below", "page.kicker",
        "confusion.row_total", "matrix.advice", "learning_curve.forecast_label", "card.data",
        "card.model", "topic.data", "topic.model", "fact.software", "reference.retina",
    }  # fmt: skip
    assert {key for key in same if not key.startswith(("column.", "trains."))} <= untranslatable


def test_the_page_speaks_indonesian(tmp_path, monkeypatch):
    monkeypatch.setattr("meninx.report.rendering.render_figure", lambda figure, kind: b"<svg/>")
    run = write_statistics(write_run(tmp_path / "run"))
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
    for name in ("checklist-claim.html", "checklist-tripod.html", "model-card.md"):
        told = (run / name).read_text()
        assert "bukan alat kesehatan" in told and "lipatan" in told
        assert not set(told.lower().split()) & {"the", "was", "were", "of"}
    table = (run / "tables" / "scores.tex").read_text()
    assert "0,79 (0,68 hingga 0,90)" in table
    assert "0.79" in (run / "tables" / "scores.csv").read_text()  # data keep the dot


def tell_as_a_study_does(run: Path) -> None:
    """Put sentences of other stages, as these write them, in place of the made-up ones."""
    by_stage = {"stem": 0.4, "stage1": 0.02, "stage2": 0.05, "stage3": 0.2}
    advice = advise(17.0, 0.2, by_stage, dict.fromkeys(by_stage, 3_315_504), Thresholds())
    matrix = {"strategy": "partial", "cut": "stage4", "reasons": list(advice.reasons)}
    references = [{"name": one.name, "kl": one.kl} for one in load_references()]
    change_json(run / "matrix.json", advice=matrix, references=references)
    plan = json.loads((run / "plan.json").read_text())
    for model in plan["models"]:
        model["reason"] = "The matrix advises this."
    left_out = [{"model": "x", "reason": "It does not fit into 30 s."}]
    write_json(run / "plan.json", {**plan, "left_out": left_out})
    told = Words.load("en").sentences
    values = {
        "count": "3", "images": "53", "classes": "lm 3",
        "reasons": "1: the file is empty; 2: something; or other",
        "limit": "5", "folds": "3", "fact": "border", "auc": "0.70", "p": "0.012", "facts": "8",
        "largest": "lm", "most": "9", "smallest": "normal", "fewest": "2", "patients": "lm 3",
        "told": "20", "scarce": "lm", "marked": "lm",
    }  # fmt: skip
    kinds = (
        "skipped",
        "duplicates",
        "near_",
        "shortcut",
        "few_",
        "imbal",
        "patients_",
        "small",
        "several_",
        "counts",
    )
    findings = [
        {
            "kind": "shortcut",
            "severity": "warning",
            "files": [],
            "advice": told[key].format(**values),
        }
        for key in told
        if key.removeprefix("told.").startswith(kinds)
    ]
    assert len(findings) > 10
    write_json(run / "audit.json", {"findings": findings})
    change_json(run / "summary.json", notes=[_explain_folds(5, 3)])


@pytest.mark.parametrize("is_ensemble", [False, True])
def test_no_english_is_left_in_an_indonesian_report(tmp_path, monkeypatch, is_ensemble):
    drawn: list[str] = []

    def take_texts(figure, kind):
        drawn.extend(text.get_text() for text in figure.findobj(Text))
        return b"<svg/>"

    monkeypatch.setattr("meninx.report.rendering.render_figure", take_texts)
    run = write_statistics(write_run(tmp_path / "run"))
    tell_as_a_study_does(run)
    if is_ensemble:
        choose_ensemble(run)
    # Titles of publications and names of programs stay as they are.
    names = (
        r"“Model Cards for Model Reporting”|Radiology: Artificial Intelligence"
        r"|TRIPOD\+AI for Abstracts|tf_\S+"
    )
    texts = {
        "report": Reader(render(run, language="id").read_text()).text,
        "figures": " ".join(drawn),
        **{path.name: Reader(path.read_text()).text for path in run.glob("checklist-*.html")},
        **{path.name: path.read_text() for path in (run / "tables").glob("*.tex")},
        "card": (run / "model-card.md").read_text(),
    }
    assert len(drawn) > 100
    for name, text in texts.items():
        said = re.sub(names, " ", text).lower()
        assert set(re.findall(r"[^\W\d_]+", said)) & ENGLISH_WORDS == set(), name


def test_another_language_is_refused(tmp_path):
    with pytest.raises(StudyError, match="'de'; choose one of en, id"):
        render(tmp_path, language="de")


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


# Sentences of other stages, which stand in the files of a run in English


def retold(sentence):
    """Tell a sentence in both languages."""
    return [Words.load(language).translate(sentence) for language in ("en", "id")]


@pytest.mark.parametrize("images_per_class", [12.0, 700.0, 1_500.0, 60_000.0])
@pytest.mark.parametrize("kl", [0.02, 0.2])
def test_reasons_of_the_matrix_are_told_in_every_language(images_per_class, kl):
    by_stage = {"stem": 0.4, "stage1": 0.02, "stage2": 0.05, "stage3": 0.2}
    advice = advise(
        images_per_class, kl, by_stage, dict.fromkeys(by_stage, 3_315_504), Thresholds()
    )
    for reason in advice.reasons:
        english, indonesian = retold(reason)
        assert english == reason
        assert indonesian != reason


def test_numbers_of_a_retold_sentence_are_written_as_the_language_does():
    _, indonesian = retold("1500 images a class are many (the border is 1,000.5).")
    assert indonesian == "1500 citra per kelas tergolong banyak (batasnya 1.000,5)."


def test_terms_of_a_retold_sentence_are_told_too():
    values = {
        "fact": "border",
        "auc": "0.66",
        "p": "0.016",
        "facts": 8,
        "told": 12,
        "images": 15,
        "marked": "lm",
    }
    sentence = Words.load("en")("told.shortcut", **values)
    assert "ciri tepi gambar sebuah citra" in retold(sentence)[1]
    assert "AUC 0,66" in retold(sentence)[1]


def test_a_sentence_that_no_stage_is_known_to_write_stays_itself():
    assert retold("A new sentence {of} some (stage).") == ["A new sentence {of} some (stage)."] * 2


def test_reasons_of_the_plan_are_told_in_every_language():
    source = Path(meninx.__file__).parent / "study" / "plan.py"
    tree = ast.parse(source.read_text())
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    reasons = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node not in docstrings and re.fullmatch(r"[A-Z][^\n]* [^\n]*[.?]", node.value)
    }
    assert len(reasons) > 5
    assert {reason for reason in reasons if retold(reason)[1] == reason} == set()


def test_notes_of_the_study_are_told_in_every_language():
    note = _explain_folds(5, 3)
    assert retold(note)[0] == note and retold(note)[1] != note


def test_reasons_of_the_time_limit_are_told_in_every_language():
    reason = explain_left_out(5.0)
    english, indonesian = retold(reason)
    assert english == reason and indonesian != reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_that_other_stages_write_have_words(language, tmp_path):
    there = Words.load(language).sentences
    strategies = {*map(str, Strategy), ENSEMBLE, "majority", "histogram"}
    facts = {*measure_appearance(save_blots(tmp_path / "a.png", 0), np.eye(50)).facts}
    source = Path(meninx.__file__).parent / "cohort" / "audit"
    kinds = set(re.findall(r'(?:cohort, |Finding\()"([a-z-]+)"', read_all(source)))
    kinds |= set(re.findall(r'"((?:exact|near)-[a-z]+)"', read_all(source)))
    assert len(kinds) == 13
    for section, names in {
        "strategy": strategies,
        "trains": strategies,
        "severity": set(map(str, Severity)),
        "kind": kinds,
        "term": facts | set(TAGS.values()),
        "reference": {reference.name for reference in load_references()},
    }.items():
        assert {name for name in names if f"{section}.{name}" not in there} == set()


def read_all(folder):
    return "".join(path.read_text() for path in folder.glob("*.py"))


def save_blots(path, seed):
    blots = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8))
    blots.resize((96, 96)).save(path)
    return path


def test_reasons_why_images_were_left_out_are_told_or_pointed_to():
    reasons = (
        "12: the file is empty; 1: it has NaN or infinite values; replace them, for example by 0"
    )
    sentence = (
        f"13 images were left out because they cannot be used ({reasons}): mend or remove them"
    )
    english, indonesian = retold(sentence)
    assert english == sentence
    assert "(12: berkas kosong; 1: memuat nilai NaN atau tak hingga; gantilah" in indonesian
    unknown = sentence.replace("the file is empty", "it came from Mars")
    english, indonesian = retold(unknown)
    assert english == unknown
    assert "12: alasan lain, lihat audit.json; 1: memuat" in indonesian


def write_manifest(folder, columns, describe):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{file},{file.split('/')[0]},{describe(file)}" for file in files]
    (folder / "manifest.csv").write_text("\n".join([f"image,label,{columns}", *rows]))
    return folder


def test_findings_about_patients_folds_and_files_are_told_in_every_language(tmp_path):
    for number in range(20):
        path = tmp_path / ("few" if number < 4 else "many") / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        save_blots(path, number)
    (tmp_path / "many" / "again.png").write_bytes((tmp_path / "many" / "10.png").read_bytes())
    ImageOps.mirror(Image.open(tmp_path / "many" / "11.png")).save(tmp_path / "many" / "left.png")
    (tmp_path / "few" / "empty.png").write_bytes(b"")
    copies = {"many/again.png": "10", "many/left.png": "11"}
    advice = set()
    for columns, describe in {
        "patient": lambda file: copies.get(file, Path(file).stem),
        "patient,synthetic": lambda file: f"{Path(file).stem},true",
        "fold": lambda file: int(
            copies.get(file, Path(file).stem) in ("00", "01", "10", "11", "12")
        ),
    }.items():
        write_manifest(tmp_path, columns, describe)
        findings = audit(Cohort.open(tmp_path / "manifest.csv", skip_bad=True))
        advice |= {one.advice for one in findings if one.severity is not Severity.ERROR}
    # Errors stop a study before it has a report.
    assert len(advice) >= 10
    assert {text for text in advice if retold(text)[1] == text} == set()
    assert {text for text in advice if retold(text)[0] != text} == set()


def test_findings_of_the_audit_are_told_in_every_language(tmp_path):
    random = np.random.default_rng(0)
    for label, kind, count in (("few", "png", 4), ("many", "jpg", 20)):
        (tmp_path / label).mkdir()
        for number in range(count):
            blots = Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8))
            blots.resize((96, 96)).save(tmp_path / label / f"{number}.{kind}", quality=95)
    one, other, *_ = sorted((tmp_path / "many").iterdir())
    (tmp_path / "many" / "again.jpg").write_bytes(one.read_bytes())
    ImageOps.mirror(Image.open(other)).save(tmp_path / "many" / "mirrored.png")
    findings = audit(Cohort.open(tmp_path))
    assert {finding.kind for finding in findings} >= {
        "few-patients", "imbalance", "patients-unknown", "small", "exact-duplicates",
        "near-duplicates", "shortcut",
    }  # fmt: skip
    assert {f.advice for f in findings if retold(f.advice)[1] == f.advice} == set()

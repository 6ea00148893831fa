"""What the report promises of its languages: every sentence in each, numbers as each has them."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

import meninx.report
from meninx.cohort import Cohort, audit
from meninx.errors import StudyError
from meninx.matrix.advice import Borders, advise
from meninx.report import Words, render
from meninx.report.language import LANGUAGES, format_number
from tests.finished_runs import Reader, change_json, write_run, write_statistics


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
    return [Words.load(language).retell(sentence) for language in ("en", "id")]


@pytest.mark.parametrize("images_per_class", [12.0, 700.0, 1_500.0, 60_000.0])
@pytest.mark.parametrize("kl", [0.02, 0.2])
def test_reasons_of_the_matrix_are_told_in_every_language(images_per_class, kl):
    by_stage = {"stem": 0.4, "stage1": 0.02, "stage2": 0.05, "stage3": 0.2}
    advice = advise(images_per_class, kl, by_stage, dict.fromkeys(by_stage, 3_315_504), Borders())
    for reason in advice.reasons:
        english, indonesian = retold(reason)
        assert english == reason
        assert indonesian != reason


def test_numbers_of_a_retold_sentence_are_written_as_the_language_does():
    _, indonesian = retold("1500 images a class are many (the border is 1,000.5).")
    assert indonesian == "1500 citra per kelas tergolong banyak (batasnya 1.000,5)."


def test_terms_of_a_retold_sentence_are_told_too():
    sentence = Words.load("en")("told.shortcut", fact="border", auc="0.66", p="0.016", facts="8")
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

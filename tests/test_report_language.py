"""What the report promises of its languages: every sentence in each, numbers as each has them."""

import ast
import json
import pickle
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

import meninx
from meninx.cohort import Cohort, Severity, audit
from meninx.cohort.appearance import TAGS, measure_appearance
from meninx.errors import ImageError, StudyError
from meninx.finetune import Strategy
from meninx.language import Message
from meninx.language.words import LANGUAGES, format_number
from meninx.matrix.references import load_references
from meninx.report import Words, render
from meninx.study.plan import ENSEMBLE
from tests.finished_runs import (
    Reader,
    change_json,
    choose_ensemble,
    say,
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

SOURCE = Path(meninx.__file__).parent
REPORT = SOURCE / "report"


def find_messages() -> Iterator[tuple[str, set[str]]]:
    """Find every code that the source raises, with the names of its values."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Message":
                names = {keyword.arg for keyword in node.keywords}
                yield from ((code, names) for code in find_codes(node.args[0], path))


def find_codes(node: ast.expr, path: Path) -> list[str]:
    """Give the codes that the first argument of a message may be; they must stand there."""
    if isinstance(node, ast.IfExp):
        return [*find_codes(node.body, path), *find_codes(node.orelse, path)]
    assert isinstance(node, ast.Constant), f"{path}: {ast.unparse(node)}"
    return [node.value]


def find_placeholders(sentence: str) -> dict[str, str]:
    """Give the placeholders of a sentence, each with its format."""
    return {name: spec for _, name, spec, _ in string.Formatter().parse(sentence) if name}


def keys_asked_for() -> Iterator[str]:
    """Find every key in a call of `words(…)`, in code and in templates."""
    for path in [*REPORT.rglob("*.py"), SOURCE / "language" / "words.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("words", "self") and node.args:
                yield from (
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )
    for path in REPORT.rglob("*.j2"):
        for argument in re.findall(r"words\(([^,)]*)", path.read_text()):
            yield from re.findall(r"[\"']([\w.]+)[\"']", argument)


def sections_asked_for() -> set[str]:
    """Find every section whose keys come from a run's files, in a call of `words.name(…)`."""
    sources = [*REPORT.rglob("*.py"), *REPORT.rglob("*.j2")]
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
    by_name = {*sections_asked_for(), "message", "term"}  # for both see the tests of messages
    idle = {key for key in there - asked if key.split(".")[0] not in by_name}
    assert idle == set()


# What other programs say of a file has English words only; elsewhere audit.json is pointed to.
UNTOLD = "message.reason_other"


def test_languages_have_the_same_sentences_with_the_same_placeholders():
    catalogues = [Words.load(language).sentences for language in LANGUAGES]
    english, *others = [
        {key: set(find_placeholders(sentence)) for key, sentence in sentences.items()}
        for sentences in catalogues
    ]
    english[UNTOLD] = set()
    for other in others:
        assert other == english
    same = [key for key, text in catalogues[0].items() if catalogues[1][key] == text]
    untranslatable = {
        "number.percent", "number.below", "number.p_equals", "number.p_below", "page.kicker",
        "confusion.row_total", "matrix.advice", "learning_curve.forecast_label", "card.data",
        "card.model", "topic.data", "topic.model", "fact.software", "reference.retina",
        "message.skipped_reason",
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


def say_every_message(run: Path) -> None:
    """Let the audit find all that can be said."""
    told = [
        {"kind": "small", "severity": "info", "files": [], **say("advice", make_message(code))}
        for code, _ in find_messages()
    ]
    write_json(run / "audit.json", {"findings": told})
    references = [{"name": one.name, "kl": one.kl} for one in load_references()]
    change_json(run / "matrix.json", references=references)


def make_message(code: str) -> Message:
    """Make a message with a number, or a term, for each of its placeholders."""
    formats = find_placeholders(Words.load("en").sentences[f"message.{code}"])
    return Message(
        code, **{name: "border" if spec == "term" else 1234.5 for name, spec in formats.items()}
    )


@pytest.mark.parametrize("is_ensemble", [False, True])
def test_no_english_is_left_in_an_indonesian_report(tmp_path, monkeypatch, is_ensemble):
    drawn: list[str] = []

    def take_texts(figure, kind):
        drawn.extend(text.get_text() for text in figure.findobj(Text))
        return b"<svg/>"

    monkeypatch.setattr("meninx.report.rendering.render_figure", take_texts)
    run = write_statistics(write_run(tmp_path / "run"))
    say_every_message(run)
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


# Messages of other stages


def test_every_message_has_a_sentence_that_speaks_of_its_values_and_none_stands_idle():
    sentences = {
        key.removeprefix("message."): set(find_placeholders(sentence))
        for key, sentence in Words.load("en").sentences.items()
        if key.startswith("message.")
    }
    raised = list(find_messages())
    assert len(raised) > 50
    assert {code for code, _ in raised} == set(sentences)
    assert [code for code, names in raised if names != sentences[code]] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_can_be_said_written_and_read(language):
    words = Words.load(language)
    for code, _ in find_messages():
        message = make_message(code)
        sentence = words.tell(message)
        assert sentence and "{" not in sentence
        assert words.tell(json.loads(json.dumps(message.as_dict()))) == sentence


def test_numbers_and_terms_of_a_message_are_written_as_the_language_does():
    size = Message("size_many_near", images=1500.0, threshold=1000.5)
    assert size.text.startswith("1500 images per class are many (the threshold is 1,000.5), but")
    assert "1500 citra per kelas tergolong banyak (ambangnya 1.000,5)" in size.tell("id")
    shortcut = Message(
        "shortcut", fact="border", auc=0.66, p=0.016, facts=8, marked="border", told=12, images=15
    )
    assert "the border of an image" in shortcut.text and "AUC 0.66" in shortcut.text
    told = shortcut.tell("id")
    assert "ciri tepi gambar sebuah citra" in told and "AUC 0,66" in told
    assert "ditandainya adalah border" in told  # a class keeps its name


@pytest.mark.parametrize(
    "content",
    [
        {"code": "of a later version", "values": {}},
        {"code": "small", "values": {}},
        {"code": "left_out", "values": {"seconds": [1]}},
        {"code": "folds"},
    ],
)
def test_a_message_that_no_sentence_fits_is_refused(content):
    with pytest.raises(StudyError, match="there is no message"):
        Words.load("id").tell(content)


def test_messages_are_told_apart_by_code_and_values():
    one, same = Message("small", count=3), Message("small", count=3)
    assert len({one, same, Message("small", count=4), Message("synthetic")}) == 3
    assert pickle.loads(pickle.dumps(one)) == one


def test_an_error_of_an_image_keeps_its_reason(tmp_path):
    plain = ImageError("it came from Mars", tmp_path)
    assert str(plain) == f"{tmp_path}: it came from Mars"
    assert plain.reason.text == "it came from Mars"
    assert plain.reason.tell("id") == "alasan lain, lihat audit.json"
    again = pickle.loads(pickle.dumps(ImageError(Message("reason_empty"), tmp_path)))
    assert again.reason == Message("reason_empty") and str(again).endswith("the file is empty")


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_that_other_stages_write_have_words(language, tmp_path):
    there = Words.load(language).sentences
    strategies = {*map(str, Strategy), ENSEMBLE, "majority", "histogram"}
    facts = {*measure_appearance(save_blots(tmp_path / "a.png", 0), np.eye(50)).facts}
    source = SOURCE / "cohort" / "audit"
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


def write_classes(folder):
    for number in range(24):
        path = folder / ("few" if number < 4 else "many") / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        save_blots(path, number)


def test_reasons_why_images_were_left_out_are_told_or_pointed_to(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "few" / "empty.png").write_bytes(b"")
    (tmp_path / "few" / "void.png").write_bytes(b"")
    (tmp_path / "many" / "objects.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "many" / "letters.npy", np.array([["a", "b"]]))
    cohort = Cohort.open(tmp_path, skip_bad=True)
    (message,) = [one.message for one in audit(cohort) if one.kind == "skipped"]
    assert "4 images were left out" in message.text and "2: the file is empty" in message.text
    told = message.tell("id")
    assert "4 citra" in told and "2: berkas kosong" in told
    assert "not real numbers" in message.text and "alasan lain, lihat audit.json" in told


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
    for finding in findings:
        written = json.loads(json.dumps(finding.as_dict()))
        english, indonesian = (Words.load(one).tell(written["message"]) for one in LANGUAGES)
        assert english == written["advice"] == finding.advice
        assert indonesian != english and "{" not in indonesian

"""What the report promises of checklists and model card: every item, and nothing made up."""

import csv
import re

import pytest

from meninx.language.words import LANGUAGES
from meninx.report import Words, render
from meninx.report.checklists import CLAIM, TRIPOD, make_checklists
from meninx.report.facts import gather_facts
from meninx.report.model_card import escape_markdown, make_model_card, write_markdown
from meninx.results import RunFolder
from tests.finished_runs import HOSTILE, Reader, change_json, write_run, write_statistics


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> RunFolder:
    return RunFolder.read(write_run(tmp_path_factory.mktemp("plain") / "run"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    return RunFolder.read(write_statistics(write_run(tmp_path_factory.mktemp("whole") / "run")))


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """The folder of a rendered run with hostile class names."""
    monkeypatch.setattr("meninx.report.rendering.render_figure", lambda figure, kind: b"<svg/>")
    classes = dict(zip(HOSTILE, (16, 22, 15), strict=True))
    run = write_statistics(write_run(tmp_path / "run", classes), classes)
    render(run)
    return run


def rows_of(run: RunFolder, name: str, language: str = "en") -> dict[str, dict[str, str]]:
    table = make_checklists(run, Words.load(language))[name]
    return {row["item"]: row for row in csv.DictReader(table.to_csv().splitlines())}


def test_claim_has_its_44_items_in_order():
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 45)]


def test_tripod_has_its_27_items_in_52_parts_in_order():
    numbers = [item.number for item in TRIPOD]
    parts = [re.fullmatch(r"(\d+)([a-g]?)", number).groups() for number in numbers]
    assert len(parts) == 52
    assert parts == sorted(parts, key=lambda part: (int(part[0]), part[1]))
    assert {int(number) for number, _ in parts} == set(range(1, 28))
    assert {item.applies for item in TRIPOD} == {"D", "E", "D;E"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "items"), [("claim", CLAIM), ("tripod", TRIPOD)])
def test_every_item_is_asked_in_words(whole, name, items, language):
    words = Words.load(language)
    rows = rows_of(whole, name, language)
    for item in items:
        assert f"{name}.{item.number}" in words.sentences
        assert f"topic.{item.topic}" in words.sentences
        assert rows[item.number]["requirement"] == words(f"{name}.{item.number}")
        assert rows[item.number]["where"] == ""


def test_every_fact_that_an_item_names_is_told(whole):
    facts = gather_facts(whole, Words.load("en"))
    named = {name for item in (*CLAIM, *TRIPOD) for name in item.facts}
    assert named <= facts.keys()
    assert {name for name in named if not facts[name]} <= {"views"}  # only a bundle knows them


def test_items_are_filled_from_the_run(whole):
    rows = rows_of(whole, "claim")
    assert rows["37"]["status"] == "filled"
    assert "0.74 (0.61 to 0.86)" in rows["37"]["filled_in"]
    assert "torch 2.14.1" in rows["23"]["filled_in"]
    assert "lm 16, leukemia 22, normal 15" in rows["35"]["filled_in"]
    assert rows["44"] | {"status": "author", "filled_in": ""} == rows["44"]


def test_what_the_run_does_not_hold_is_left_to_the_author(plain, whole):
    assert rows_of(whole, "tripod")["12f"]["status"] == "filled"
    assert (
        rows_of(plain, "tripod")["12f"] | {"status": "author", "filled_in": ""}
        == (rows_of(plain, "tripod")["12f"])
    )
    assert rows_of(whole, "claim")["38"]["status"] == "filled"
    assert rows_of(plain, "claim")["38"]["status"] == "partly"


def test_unknown_patients_are_not_said_to_be_kept_apart(plain):
    assert rows_of(plain, "claim")["20"]["filled_in"].startswith("Image: which images are of one")
    change_json(plain.path / "summary.json", patients_known=True)
    known = rows_of(RunFolder.read(plain.path), "claim")["20"]["filled_in"]
    assert known.startswith("Patient: all images of a patient")


def test_checklists_are_pages_that_load_nothing_and_tables(rendered):
    for name, items in (("claim", CLAIM), ("tripod", TRIPOD)):
        page = (rendered / f"checklist-{name}.html").read_text()
        reader = Reader(page)
        assert not reader.targets and "script" not in reader.tags
        assert HOSTILE[0] in reader.text
        with (rendered / f"checklist-{name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(items)


def test_the_model_card_says_what_it_must(rendered):
    card = (rendered / "model-card.md").read_text()
    for title in (
        "The model", "Intended use", "Not intended", "Data", "Training and choice", "Scores",
        "Probabilities and explanations", "Images that do not belong here", "Limits",
        "Availability and privacy",
    ):  # fmt: skip
        assert f"\n## {title}\n" in card
    for said in ("not a medical device", "0.74 (0.61 to 0.86)", "torch 2.14.1", "flagged by mist"):
        assert said in card
    assert "<script>" not in card and r"\<script\>" in card


def test_the_model_card_stands_in_the_page_too(rendered):
    text = Reader((rendered / "report.html").read_text()).text
    place = text.index("Model card", text.index("Limits "))
    assert "Not for diagnosis, triage or treatment" in text[place:]


def test_the_card_tells_nothing_of_what_was_not_done(plain):
    words = Words.load("en")
    card = write_markdown(make_model_card(plain, words), words)
    assert "flagged by mistake" not in card and "temperature (" not in card


def test_a_bundle_adds_what_it_knows_of_each_of_its_networks(whole):
    (whole.path / "bundle").mkdir()
    bundle = whole.path / "bundle" / "bundle.json"
    bundle.write_text(
        '{"members": [{"backbone": "tf_efficientnet_lite0", "views": 8, "input_size": 224,'
        ' "pretrained": {"kind": "packaged", "sha256": "57934424"}},'
        ' {"backbone": "tf_efficientnet_lite1", "views": 8, "input_size": 240,'
        ' "pretrained": {"kind": "packaged", "sha256": "82639204"}}]}'
    )
    facts = gather_facts(RunFolder.read(whole.path), Words.load("en"))
    bundle.unlink()
    assert facts["views"].count("8 fixed views") == 1
    assert "224 × 224, 240 × 240" in facts["model"]
    assert "57934424" in facts["initialisation"] and "82639204" in facts["initialisation"]


def test_markdown_marks_are_escaped():
    assert escape_markdown("<b>*a*_[b](c)`\n# d") == r"\<b\>\*a\*\_\[b\](c)\` \# d"

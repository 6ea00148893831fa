"""From a folder of DICOM studies, or the CE-MRI set, to a manifest."""

import csv
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from scipy.io import savemat

from meninx import cli
from meninx.cohort import Cohort, Wanted, audit, write_cemri_manifest, write_dicom_manifest
from meninx.cohort.pseudonyms import Pseudonyms
from meninx.errors import CohortError
from meninx.imaging import SeriesKind, SliceChoice
from meninx.imaging.dicom_headers import name_sequence
from meninx.imaging.file_walk import walk_files
from meninx.imaging.series import find_series
from tests.test_cohort import SECRET, picture, save_dicom, save_png
from tests.test_reading import save_cjdata

ALL_KINDS = tuple(SeriesKind)


def save_slice(folder, number, patient=SECRET, series="1.2.3", place=None, **elements):
    path = folder / f"{patient}-{series}-{number:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "PatientID": patient, "StudyInstanceUID": "1.2", "SeriesInstanceUID": series,
        "Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "M"], "InstanceNumber": number,
        "SeriesDescription": "AX T1 SE POST", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, number if place is None else place], **elements,
    }  # fmt: skip
    given = {keyword: value for keyword, value in given.items() if value is not None}
    return save_dicom(path, picture(abs(hash(path.name)) % 2**31, (16, 20)), **given)


@pytest.fixture
def study(tmp_path):
    """Four patients with eight slices of T1 after contrast, a localiser and a computed map."""
    folder = tmp_path / "dicom"
    for patient in range(4):
        own = folder / f"disc{patient}" / "DATA"
        for number in range(8):  # stored from head to feet, told from feet to head
            save_slice(own, number, f"{SECRET}{patient}", f"1.2.{patient}.1", place=-3 * number)
        save_slice(
            own, 50, f"{SECRET}{patient}", f"1.2.{patient}.2", SeriesDescription="3-plane Loc"
        )
        save_slice(
            own, 60, f"{SECRET}{patient}", f"1.2.{patient}.3", ImageType=["DERIVED", "SECONDARY"]
        )
        (own / "DICOMDIR").write_bytes(b"old and wrong")
        (own / "viewer.exe").write_bytes(b"MZ" + bytes(200))
    labels = "\n".join(f"{SECRET}{patient},{'ab'[patient % 2]}" for patient in range(4))
    (tmp_path / "labels.csv").write_text(f"patient,label\n{labels}\n")
    return tmp_path


def write(study, wanted=Wanted(), labels="labels.csv", **options):  # noqa: B008 (frozen)
    return write_dicom_manifest(
        study / "dicom", study / labels, study / "manifest.csv", study / "my.key", wanted, **options
    )


def read_rows(study):
    with (study / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder_of_studies_becomes_series_in_order_with_their_kind(study):
    series, bad = find_series(study / "dicom")
    assert bad == {} and len(series) == 12
    assert [one.kind.value for one in series[:3]] == ["original", "localiser", "derived"]
    places = [header.position[2] for header in series[0].slices]
    assert places == sorted(places) and len(places) == 8


def test_the_order_is_along_the_normal_whatever_the_numbers_and_the_orientation(tmp_path):
    for number in range(6):  # sagittal: the normal is the x axis; numbers say the opposite
        save_slice(
            tmp_path, 10 - number, ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            ImagePositionPatient=[number * 1.5, 4, 9],
        )  # fmt: skip
    ((one,), _) = find_series(tmp_path)
    along = [header.position[0] for header in one.slices]
    assert along in (sorted(along), sorted(along, reverse=True))


def test_without_positions_the_instance_number_orders(tmp_path):
    for number in (3, 1, 10, 2):
        save_slice(tmp_path, number, ImagePositionPatient=None, ImageOrientationPatient=None)
    ((one,), _) = find_series(tmp_path)
    assert [int(header.path.name[-3:]) for header in one.slices] == [1, 2, 3, 10]


def test_several_planes_in_one_series_are_a_localiser(tmp_path):
    save_slice(tmp_path, 1)
    save_slice(tmp_path, 2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    ((one,), _) = find_series(tmp_path)
    assert one.kind == SeriesKind.LOCALISER


def test_repeats_at_one_place_and_copies_of_a_file_count_once(tmp_path):
    for number in range(4):
        for moment in (2, 1):
            save_slice(
                tmp_path, 10 * moment + number, place=number, TemporalPositionIdentifier=moment
            )
    first = sorted(tmp_path.iterdir())[0]
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "again").write_bytes(first.read_bytes())
    ((one,), _) = find_series(tmp_path)
    assert len(one.slices) == 4 and one.repeats == 4
    assert {header.moment[1] for header in one.slices} == {1.0}


def test_frames_of_an_enhanced_mr_are_slices_in_order(tmp_path):
    groups = []
    for place in (5, 1, 3):
        position, orientation, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, place]
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        group.PlanePositionSequence = Sequence([position])
        group.PlaneOrientationSequence = Sequence([orientation])
        groups.append(group)
    save_dicom(
        tmp_path / "enhanced", picture(shape=(3, 16, 20)), PatientID="p", Modality="MR",
        SeriesInstanceUID="1.2", PerFrameFunctionalGroupsSequence=Sequence(groups),
    )  # fmt: skip
    ((one,), _) = find_series(tmp_path)
    assert [header.frame for header in one.slices] == [1, 2, 0]


def test_the_manifest_opens_as_a_cohort_and_holds_pseudonyms_only(study):
    written = write(study, Wanted(slices=3))
    assert (written.images, written.patients) == (12, 4)
    assert written.left_out == {"series are localiser": 4, "series are derived": 4}
    rows = read_rows(study)
    assert {row["sequence"] for row in rows} == {"T1+C"} and {row["label"] for row in rows} == {
        "a", "b",
    }  # fmt: skip
    assert all(re.fullmatch(r"P-[0-9a-f]{16}", row["patient"]) for row in rows)
    assert not any(SECRET in value for row in rows for key, value in row.items() if key != "image")
    cohort = Cohort.open(study / "manifest.csv")
    assert cohort.patients_known and len(set(cohort.patients)) == 4


def test_the_key_makes_the_same_names_again_and_another_key_others(study):
    write(study, Wanted(slices=1))
    first = [row["patient"] for row in read_rows(study)]
    assert stat.S_IMODE((study / "my.key").stat().st_mode) == 0o600
    write(study, Wanted(slices=1))
    assert [row["patient"] for row in read_rows(study)] == first
    (study / "my.key").unlink()
    write(study, Wanted(slices=1))
    assert not set(first) & {row["patient"] for row in read_rows(study)}
    key = (study / "my.key").read_text().strip()
    assert key not in repr(Pseudonyms.open(study / "my.key"))
    (study / "my.key").write_text("short")
    with pytest.raises(CohortError, match="it is no key"):
        write(study)


@pytest.mark.parametrize(("choose", "count"), [("middle", 2), ("even", 4), ("brain", 3)])
def test_slices_of_a_series_are_chosen_by_the_same_rules(study, choose, count):
    write(study, Wanted(slices=count, choose=SliceChoice(choose)))
    rows = read_rows(study)
    assert len(rows) == 4 * count
    if choose == "middle":  # stored from head to feet: places −12 and −9 are numbers 4 and 3
        assert {row["image"][-3:] for row in rows} == {"003", "002"} or {
            row["image"][-3:] for row in rows
        } == {"004", "003"}


def test_series_are_filtered_by_description_and_kind(study):
    assert write(study, Wanted(series="t1.*post")).images == 32
    with pytest.raises(CohortError, match=r"no image is left .*do not match"):
        write(study, Wanted(series="FLAIR"))
    with pytest.raises(CohortError, match="not a regex"):
        write(study, Wanted(series="("))
    assert write(study, Wanted(kinds=ALL_KINDS)).images == 40


def test_labels_by_folder_and_by_series(study):
    rows = "\n".join(f"disc{patient},{'ab'[patient % 2]}" for patient in range(4))
    (study / "folders.csv").write_text(f"folder,label\n{rows}\n")
    assert write(study, labels="folders.csv").images == 32
    rows = "\n".join(f"1.2.{patient}.1,{'ab'[patient % 2]}" for patient in range(4))
    (study / "series.csv").write_text(f"series,label\n{rows}\n")
    assert write(study, labels="series.csv").images == 32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("patient,kind\np,a\n", "it needs the column label and one of"),
        ("patient,folder,label\np,f,a\n", "it needs the column label and one of"),
        ("patient,label\np,\n", "line 2 has no patient or no label"),
        ("patient,label\np,a\np,b\n", "line 3 gives another label"),
        ("", "it is empty"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(study, content, reason):
    (study / "bad.csv").write_text(content)
    with pytest.raises(CohortError, match=reason):
        write(study, labels="bad.csv")


def test_every_bad_file_is_named_at_once_without_its_tags_or_left_out(study):
    files = sorted((study / "dicom").rglob("*-00*"))
    for path in files[:2]:
        content = path.read_bytes()
        path.write_bytes(content[:300] + b"\xff" * 40 + content[340:400])
    (study / "labels.csv").write_text(f"patient,label\n{SECRET}0,a\n{SECRET}1,b\n{SECRET}9,b\n")
    with pytest.raises(CohortError, match="--skip-bad leaves them out") as caught:
        write(study, Wanted(series="POST"))
    message = str(caught.value)
    assert "\n" not in message and message.count("the labels name no patient") == 2
    for path in sorted((study / "dicom").rglob("*"), reverse=True):
        message = message.replace(str(path), "")
    assert SECRET not in message and "1.2." not in message
    written = write(study, Wanted(series="POST"), skip_bad=True)
    assert written.patients == 2 and written.left_out["labels name nothing that was found"] == 1


def test_a_folder_without_dicom_is_refused(tmp_path):
    with pytest.raises(CohortError, match="no such folder"):
        find_series(tmp_path / "nowhere")
    (tmp_path / "note").write_text("hello")
    with pytest.raises(CohortError, match="no DICOM image is in it"):
        find_series(tmp_path)


def test_linked_folders_are_entered_once_and_unreadable_ones_are_told(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_text("x")
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    found = [
        path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path, lambda _: False)
    ]
    assert found == ["a/x", "linked/x"]
    import os

    def deny(top, **_):
        raise PermissionError(13, "no", str(top))

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(CohortError, match="this folder cannot be read"):
        walk_files(tmp_path, lambda _: False)


@pytest.mark.parametrize(
    ("description", "tags", "name"),
    [
        ("AX T1 SE POST", {}, "T1+C"),
        ("t2_tirm_tra_dark-fluid", {}, "FLAIR"),
        ("ep2d_diff_b1000", {}, "DWI"),
        ("T1 PRE CONTRAST", {}, "T1"),
        ("MPRAGE", {"ContrastBolusAgent": "x"}, "T1+C"),
        ("", {"EchoTime": 100, "RepetitionTime": 4000}, "T2"),
        ("", {"EchoTime": 10, "RepetitionTime": 500}, "T1"),
        ("", {"EchoTime": 90, "RepetitionTime": 9000, "InversionTime": 2500}, "FLAIR"),
        ("", {}, "unknown"),
    ],
)
def test_sequences_are_named_in_words_of_a_fixed_list(description, tags, name):
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    assert name_sequence(dataset, description) == name


# --- the CE-MRI set -----------------------------------------------------------------------------


def make_cemri(folder, index="v5"):
    (folder / "part").mkdir()
    for number in range(1, 7):
        image = picture(number).astype(np.int16)
        save_cjdata(folder / "part" / f"{number}.mat", image, number % 3 + 1, f"{SECRET}{number}")
    folds = np.array([[1], [2], [1], [2], [1], [2]], float)
    if index == "v5":
        savemat(folder / "cvind.mat", {"cvind": folds})
    else:
        import h5py

        with h5py.File(folder / "cvind.mat", "w") as file:
            file["cvind"] = folds.T
    return folder


@pytest.mark.parametrize("index", ["v5", "v7.3"])
def test_the_cemri_set_becomes_a_manifest_with_its_folds(tmp_path, index):
    make_cemri(tmp_path, index)
    written = write_cemri_manifest(tmp_path, tmp_path / "manifest.csv", tmp_path / "k.key")
    assert (written.images, written.patients) == (6, 6)
    rows = read_rows(tmp_path)
    assert [row["fold"] for row in rows] == list("121212")
    assert [row["label"] for row in rows][:3] == ["glioma", "pituitary", "meningioma"]
    assert SECRET not in (tmp_path / "manifest.csv").read_text()
    assert all(row["mask"] == row["image"] for row in rows)


def test_bad_files_of_the_cemri_set_are_named_or_left_out(tmp_path):
    make_cemri(tmp_path)
    (tmp_path / "part" / "3.mat").write_bytes(b"broken")
    save_cjdata(tmp_path / "part" / "4.mat", picture().astype(np.int16), label=9)
    with pytest.raises(CohortError, match=r"2 cannot be used .*3\.mat.*4\.mat.*its label is 9"):
        write_cemri_manifest(tmp_path, tmp_path / "manifest.csv", tmp_path / "k.key")
    written = write_cemri_manifest(tmp_path, tmp_path / "manifest.csv", tmp_path / "k.key", True)
    assert written.images == 4
    (tmp_path / "cvind.mat").write_bytes(b"broken")
    with pytest.raises(CohortError, match="fold index"):
        write_cemri_manifest(tmp_path, tmp_path / "manifest.csv", tmp_path / "k.key")


# --- cohorts with bad images --------------------------------------------------------------------


def test_a_link_out_of_a_class_folder_to_one_above_is_not_entered(tmp_path):
    """Else the images of all classes would be listed under one."""
    for number in range(4):
        save_png(tmp_path / "d" / "ab"[number % 2] / f"{number}.png", picture(number))
    (tmp_path / "d" / "a" / "up").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "b" / "top").symlink_to("/")
    assert [sample.path.name for sample in Cohort.open(tmp_path / "d").samples] == [
        "0.png", "2.png", "1.png", "3.png",
    ]  # fmt: skip


def test_bad_images_are_left_out_and_recorded_when_asked(tmp_path):
    folder = tmp_path / "d"
    for number in range(8):
        save_png(
            folder / "ab"[number % 2] / f"scan{number // 2:02d}.png", picture(number, (64, 64))
        )
    bad = [folder / "a" / "scan00.png", folder / "b" / "scan01.png"]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(bad[1].read_bytes()[:100])
    with pytest.raises(CohortError, match="2 images cannot be used"):
        Cohort.open(folder)
    cohort = Cohort.open(folder, skip_bad=True)
    assert len(cohort.samples) == 6
    assert [skipped.path for skipped in cohort.skipped] == bad
    (finding,) = [found for found in audit(cohort) if found.kind == "skipped"]
    assert finding.severity == "warning" and finding.files == tuple(map(str, bad))
    assert "2 images were left out" in finding.advice and "scan" not in finding.advice


# --- on the command line ------------------------------------------------------------------------


def run_meninx(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["meninx", *map(str, arguments)])
    cli.main()
    output = capsys.readouterr()
    return output.out, output.err


def test_a_dicom_folder_becomes_a_manifest_on_the_command_line(study, monkeypatch, capsys):
    out, err = run_meninx(
        monkeypatch, capsys, "cohort", study / "dicom", "--labels", study / "labels.csv",
        "-o", study / "manifest.csv", "--slices", 2, "--choose", "middle", "--series", "T1.*POST",
    )  # fmt: skip
    assert "8 images, 4 patients" in out and "series are localiser" in err
    assert (study / "manifest.key").is_file() and SECRET not in err
    out, _ = run_meninx(monkeypatch, capsys, "cohort", study / "manifest.csv", "--json")
    assert len(json.loads(out)) == 8


def test_bad_input_ends_in_one_line_and_exit_code_2(study, tmp_path, monkeypatch, capsys):
    for number in range(8):
        save_png(tmp_path / "d" / "ab"[number % 2] / f"{number}.png", picture(number, (64, 64)))
    (tmp_path / "d" / "a" / "bad\x1b[2J\nname.png").write_bytes(b"")
    (tmp_path / "d" / "b" / "text.dcm").write_text("no image")
    monkeypatch.setattr("sys.argv", ["meninx", "cohort", str(tmp_path / "d"), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("meninx: 2 images cannot be used")
    assert error.count("\n") == 1 and "\x1b" not in error and "text.dcm" in error
    monkeypatch.setattr(
        "sys.argv", ["meninx", "cohort", str(tmp_path / "d"), "--json", "--skip-bad"]
    )
    cli.main()
    assert len(json.loads(capsys.readouterr().out)) == 8


def test_names_of_files_are_shown_as_they_are_whatever_they_look_like(
    tmp_path, monkeypatch, capsys
):
    """As markup of the terminal's library, as commands to the terminal, as no text at all."""
    for number in range(4):
        folder = tmp_path / "x[" / f"bold]{'ab'[number % 2]}:smile:"
        save_png(folder / f"[red]{number}\x1b[2J.png", picture(number))
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
    save_png(Path(odd), picture(9))
    out, _ = run_meninx(monkeypatch, capsys, "cohort", tmp_path / "x[")
    assert "\x1b" not in out and ":smile:" in out
    out, _ = run_meninx(monkeypatch, capsys, "cohort", tmp_path / "x[", "--json")
    assert odd in [row["image"] for row in json.loads(out)]
    folder.rename(os.fsdecode(os.fsencode(tmp_path / "x[") + b"/\xff"))
    with pytest.raises(CohortError, match="a class cannot have this name"):
        Cohort.open(tmp_path / "x[")


def test_images_outside_the_manifests_folder_need_a_word(study, monkeypatch, capsys):
    own = study / "elsewhere"
    _, err = run_meninx(
        monkeypatch, capsys, "cohort", study / "dicom", "--labels", study / "labels.csv",
        "-o", own / "manifest.csv", "--slices", 1, "--key", study / "k",
    )  # fmt: skip
    assert "--allow-outside" in err and (study / "k").is_file()
    with pytest.raises(CohortError, match="outside the manifest's folder"):
        Cohort.open(own)
    out, _ = run_meninx(monkeypatch, capsys, "cohort", own, "--allow-outside", "--json")
    assert len(json.loads(out)) == 4

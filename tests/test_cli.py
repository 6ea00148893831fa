"""The command line: what others script against."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from meninx import cli
from meninx.cli.interrupt import say_stopped
from meninx.cli.output import console, make_table
from meninx.cohort import as_head
from tests.conftest import write_cohort

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process; give its exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["meninx", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = done.code or 0
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture(scope="module")
def run(disc_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    command = [
        sys.executable, "-m", "meninx", "study", disc_folder, "-o", out, "--backbones", LITE0,
        "--strategies", "frozen", "--folds", "2", "--repeats", "1", "--seed", "3", "--jobs", "1",
        "--json",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.mark.skipif(sys.platform != "linux", reason="asks the threads of GNU's compiler")
@pytest.mark.parametrize(
    ("wished", "is_asleep"), [({}, True), ({"OMP_WAIT_POLICY": "ACTIVE"}, False)]
)
def test_threads_that_wait_sleep_unless_the_user_wishes_otherwise(wished, is_asleep):
    """Beside another busy program threads that spin make a plan take two or three times as long."""
    script = """
import sys
from meninx import cli
sys.argv = ["meninx", "--help"]
try:
    cli.main()
except SystemExit:
    pass
import torch
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", **wished}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    (turns,) = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", found.stderr)
    assert (int(turns) == 0) == is_asleep


def test_a_study_prints_its_summary_as_json(run):
    out, done = run
    assert json.loads(done.stdout) == json.loads((out / "summary.json").read_text())


def test_a_study_says_once_that_nothing_tells_patients_apart(run):
    _, done = run
    assert done.stderr.count("each image is taken for a patient of its own") == 1


def test_a_study_does_not_pass_on_what_libraries_tell_programmers(run):
    _, done = run
    assert "torch" not in done.stderr and "Warning" not in done.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(call, disc_folder, tmp_path):
    out = tmp_path / "run"
    code, output, _ = call("study", disc_folder, "-o", out, "--jobs", 1, "--dry-run", "--json")
    models = [model["model"] for model in json.loads(output)["models"]]
    assert code == 0 and f"{LITE0}-frozen" in models and not out.exists()


def test_a_dry_run_tells_people_how_long_models_and_study_take(call, disc_folder, tmp_path):
    _, output, _ = call(
        "study",
        disc_folder,
        "-o",
        tmp_path / "run",
        "--strategies",
        "frozen",
        "--jobs",
        1,
        "--dry-run",
    )
    assert "< 1 s" in output
    assert re.search(r"The whole study takes some \d+ (s|min) to \d+ (s|min) on", output)


def test_matrix_json_keeps_its_fields(call, disc_folder):
    code, output, _ = call("matrix", disc_folder, "--backbones", LITE0, "--json")
    measured = json.loads(output)
    assert code == 0
    assert {
        "images", "patients", "classes", "similarity", "size", "quadrant", "advice", "backbones",
    } <= measured.keys()  # fmt: skip


def test_matrix_prints_a_table_and_draws_the_figure(call, disc_folder, tmp_path):
    code, output, _ = call("matrix", disc_folder, "--backbones", LITE0, "-o", tmp_path / "figures")
    assert code == 0 and "quadrant" in output and "nats" in output
    assert b"<svg" in (tmp_path / "figures" / "matrix.svg").read_bytes()
    with Image.open(tmp_path / "figures" / "matrix.png") as picture:
        assert min(picture.size) > 500


def test_backbones_are_ranked_on_images(call, disc_folder):
    code, output, _ = call("backbones", disc_folder, "--backbones", LITE0, "--json")
    (fit,) = json.loads(output)
    assert code == 0
    assert {
        "name", "logme", "h_score", "probe", "neighbours", "milliseconds", "parameters",
        "megabytes",
    } <= fit.keys()  # fmt: skip


def test_backbones_lists_the_packaged_three_first(call):
    code, output, _ = call("backbones", "--json")
    entries = json.loads(output)
    assert code == 0
    assert [entry["name"] for entry in entries[:3]] == [
        f"tf_efficientnet_lite{size}" for size in range(3)
    ]
    assert all(entry["weights"] == "packaged" for entry in entries[:3])


def test_audit_json_keeps_its_fields(call, disc_folder):
    code, output, _ = call("audit", disc_folder, "--json")
    findings = json.loads(output)["findings"]
    assert code == 0 and findings
    fields = {"kind", "severity", "files", "advice", "message"}
    assert all(finding.keys() == fields for finding in findings)


def test_cohort_tells_the_user_which_pseudonym_is_which_file(call, disc_folder):
    code, output, _ = call("cohort", disc_folder, "--json")
    rows = json.loads(output)
    assert code == 0 and len(rows) == 18
    assert rows[0].keys() == {"sample", "patient", "label", "image"}


def test_predict_json_keeps_its_fields(call, run, disc_folder, tmp_path):
    out, _ = run
    images = sorted(disc_folder.glob("*/*.png"))[:2]
    code, output, error = call("predict", out / "bundle", *images, "--heatmaps", tmp_path, "--json")
    answers = json.loads(output)
    assert code == 0 and len(answers) == 2
    for answer, image in zip(answers, images, strict=True):
        assert answer.keys() == {
            "image", "patient", "probabilities", "prediction_set", "out_of_distribution",
            "ood",
            "heatmap",
        }  # fmt: skip
        assert answer["image"] == str(image)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        with Image.open(answer["heatmap"]) as heatmap:  # of the head, as it was trained
            assert heatmap.size == as_head(image).shape[1::-1]
        assert image.stem not in answer["heatmap"]
    assert "not a medical device" in error


def test_bad_images_are_named_after_the_answers_for_all_others(call, run, disc_folder, tmp_path):
    out, _ = run
    good = sorted(disc_folder.glob("*/*.png"))[:2]
    (tmp_path / "damaged.png").write_bytes(good[0].read_bytes()[:200])
    (tmp_path / "Thumbs.db").write_bytes(b"none")
    bad = [tmp_path / "damaged.png", tmp_path / "Thumbs.db", tmp_path / "gone.png"]
    images = [bad[0], good[0], bad[1], good[1], bad[2]]
    code, output, error = call("predict", out / "bundle", *images, "--json")
    assert code == 2
    assert [answer["image"] for answer in json.loads(output)] == list(map(str, good))
    told = [line for line in error.splitlines() if line.startswith("meninx: ")]
    assert len(told) == 3 and all(path.name in line for path, line in zip(bad, told, strict=True))
    code, output, error = call("predict", out / "bundle", *bad[:2])
    assert code == 2 and not output and error.count("meninx: ") == 2


def test_explain_writes_pictures(call, run, disc_folder, tmp_path):
    out, _ = run
    image = next(disc_folder.glob("*/*.png"))
    code, _, _ = call("explain", out / "bundle", image, "-o", tmp_path / "maps")
    assert code == 0 and len(list((tmp_path / "maps").glob("*.png"))) == 1


def test_the_report_is_written_again_in_indonesian(call, run):
    out, _ = run
    code, _, _ = call("report", out, "--language", "id")
    assert code == 0 and "citra" in (out / "report.html").read_text()
    assert call("report", out)[0] == 0


def test_two_runs_are_compared(call, run):
    out, _ = run
    code, output, _ = call("compare", out, out, "--json")
    assert code == 0 and json.loads(output)["difference"] == 0


@pytest.mark.slow
def test_a_phantom_is_written(call, tmp_path):
    code, _, _ = call("phantom", tmp_path / "phantom", "--seed", "1")
    assert code == 0 and (tmp_path / "phantom" / "manifest.csv").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "/nowhere", "-o", "/tmp/never"),
        ("study",),
        ("matrix", "/nowhere"),
        ("matrix", "DISCS", "--backbones", "resnet19"),
        ("study", "DISCS", "-o", "/tmp/never", "--strategies", "forzen"),
        ("study", "DISCS", "-o", "/tmp/never", "--folds", "1"),
        ("predict", "/nowhere", "image.png"),
        ("report", "/nowhere"),
        ("audit", "--unheard-of"),
    ],
    ids=" ".join,
)
def test_bad_input_ends_in_one_line_and_exit_code_2(arguments, call, disc_folder):
    arguments = [disc_folder if argument == "DISCS" else argument for argument in arguments]
    code, output, error = call(*arguments)
    last = error.strip().splitlines()[-1]
    assert code == 2 and last.startswith("meninx: ") and "Traceback" not in error
    assert not output


def test_every_bad_image_is_named_before_anything_is_computed(call, tmp_path):
    folder = write_cohort(tmp_path / "bad", {"plain": 3, "striped": 3})
    for name in ("one", "two"):
        (folder / "plain" / f"{name}.png").write_bytes(b"not an image")
    code, _, error = call("study", folder, "-o", tmp_path / "run")
    assert code == 2 and "one.png" in error and "two.png" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", ["one class", "one image", "constant images"])
def test_a_matrix_of_what_is_no_cohort_ends_in_a_sentence(fault, call, tmp_path):
    folder = write_cohort(tmp_path / "images", {"plain": 2, "striped": 2})
    if fault == "one class":
        shutil.rmtree(folder / "striped")
    elif fault == "one image":
        shutil.rmtree(folder / "striped")
        next((folder / "plain").glob("*.png")).unlink()
    else:
        for file in folder.glob("*/*.png"):
            Image.new("L", (64, 64), 128).save(file)
    code, output, error = call("matrix", folder, "-o", tmp_path / "figures")
    assert code == 2 and not output and not (tmp_path / "figures").exists()
    (line,) = error.strip().splitlines()
    assert line.startswith("meninx: ")
    assert {"one class": "class", "one image": "class", "constant images": "same"}[fault] in line


def test_the_audits_table_names_a_few_files_and_counts_the_others(call, disc_folder):
    findings = json.loads(call("audit", disc_folder, "--json")[1])["findings"]
    small = next(finding for finding in findings if finding["kind"] == "small")
    code, output, _ = call("audit", disc_folder)
    told = " ".join(output.replace("│", " ").split())
    assert code == 0 and f"{len(small['files']) - 4} more" in told
    assert str(disc_folder) not in told


def test_a_long_path_breaks_no_name_of_a_class(capsys):
    rows = [{"image": "/a/very/long" * 20, "meningioma": "0.123", "pituitary": "0.877"}]
    console.print(make_table("Predictions", tuple(rows[0]), rows), width=60)
    told = capsys.readouterr().out
    assert "meningioma" in told and "pituitary" in told


def start(*arguments):
    """Start a program as a terminal does: in a group of its own, which Ctrl-C reaches."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a group of processes")
def test_ctrl_c_ends_a_study_with_130_and_a_word(disc_folder, tmp_path):
    out = tmp_path / "run"
    study = start("-m", "meninx", "study", disc_folder, "-o", out, "--backbones", LITE0)
    wait_until(lambda: (out / "study.toml").exists())
    os.killpg(study.pid, signal.SIGINT)
    _, error = study.communicate(timeout=60)
    assert study.returncode == 130
    assert error.splitlines()[-1] == "Stopped. The same command goes on from here."
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a group of processes")
@pytest.mark.parametrize("reaches_workers", [True, False])
def test_ctrl_c_leaves_no_worker(reaches_workers):
    script = """
import sys, time
from meninx import cli
from meninx.cli.application import app
@app.command()
def rest():
    from meninx.study.workers import Workers
    print("ready", flush=True)
    list(Workers(2).run(time.sleep, [(300,), (300,), (300,)]))
sys.argv = ["meninx", "rest"]
cli.main()
"""
    resting = start("-c", script)
    assert resting.stdout.readline() == "ready\n"
    time.sleep(1)
    send = os.killpg if reaches_workers else os.kill  # as the terminal does, or a batch system
    send(resting.pid, signal.SIGINT)
    _, error = resting.communicate(timeout=60)
    assert (resting.returncode, error) == (130, "Stopped.\n")
    wait_until(lambda: not list_running(resting.pid), seconds=10)


def list_running(group):
    """List the processes of a group that still run; a zombie has only not been asked after."""
    listed = subprocess.run(["ps", "-axo", "pgid=,stat="], capture_output=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [row for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def wait_until(happens, seconds=120):
    ends = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["study", "images", "-o", "run"], "Stopped. The same command goes on from here."),
        (["study", "images", "--fresh"], "Stopped. The same command without --fresh goes on "),
        (["predict", "bundle", "study"], "Stopped."),
        ([], "Stopped."),
    ],
)
def test_a_stopped_command_says_how_it_goes_on(arguments, told):
    assert say_stopped(arguments).startswith(told)
    assert ("goes on" in say_stopped(arguments)) == ("goes on" in told)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ([], 'study "phantom" -o "run-phantom"'),
        (["DATA=a/my images"], 'study "a/my images" -o "run-my images"'),
        (["DATA=a/scans/manifest.csv"], 'study "a/scans/manifest.csv" -o "run-scans"'),
        (["DATA=x/", "OUT=y", "ARGS=--seed 1"], 'study "x/" -o "y" --seed 1'),
    ],
)
def test_make_study_names_the_run_folder_after_the_data(settings, command):
    root = Path(__file__).resolve().parents[1]
    told = subprocess.run(
        ["make", "-n", "study", *settings], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert command in told
    assert ("meninx phantom" in told) == (not settings and not (root / "phantom").exists())

"""The rules of the house that code can break."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "meninx"

# The order in which a study meets them; study is the spine that joins all before it.
FLOW = [
    "cohort", "backbones", "matrix", "finetune", "evaluate", "explain", "bundle", "report",
    "study", "serve", "cli",
]  # fmt: skip


def imported_stages(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("meninx."):
            yield node.module.split(".")[1]
        if isinstance(node, ast.Import):
            yield from (
                name.name.split(".")[1] for name in node.names if name.name.startswith("meninx.")
            )


def stage_of(file):
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def find_backward_imports(files):
    return [
        (file.name, stage)
        for file in files
        for stage in imported_stages(file)
        if stage in FLOW
        and stage_of(file) in FLOW
        and FLOW.index(stage) > FLOW.index(stage_of(file))
    ]


def test_a_later_stage_imports_an_earlier_one_and_never_the_other_way():
    assert find_backward_imports(SOURCE.rglob("*.py")) == []


def test_a_planted_backward_import_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    (tmp_path / "cohort").mkdir()
    planted = tmp_path / "cohort" / "planted.py"
    planted.write_text("from meninx.study import Study\n")
    assert find_backward_imports([planted]) == [("planted.py", "study")]


def test_every_stage_of_the_flow_is_there():
    missing = [stage for stage in FLOW if not (SOURCE / stage).is_dir()]
    assert missing == []


def test_no_pickle_is_loaded():
    offending = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                offending += [
                    (file.name, name.name)
                    for name in node.names
                    if name.name in {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
                ]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target = ast.unparse(node.func)
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if target == "torch.load" and keywords.get("weights_only") != "True":
                    offending.append((file.name, target))
                if keywords.get("allow_pickle") == "True" or target == "joblib.load":
                    offending.append((file.name, target))
    assert offending == []


@pytest.mark.parametrize("command", [["--help"], ["study", "--help"]])
def test_help_needs_no_torch(command):
    code = (
        f"import sys; sys.argv = ['meninx', *{command!r}]\n"
        "from meninx.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit('imported ' + ', '.join(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_stands_in_one_place():
    import meninx

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert meninx.__version__ == project["version"]


def test_constraints_hold_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    for line in lines:
        name, _, version = line.partition("==")
        assert name and version and "://" not in line and "@" not in line, line

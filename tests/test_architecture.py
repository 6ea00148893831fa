"""The rules of the house that code can break."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "meninx"

# The order in which a study meets them, after what all of them speak with; study is the spine
# that joins all before it.
FLOW = [
    "language", "imaging", "cohort", "phantom", "backbones", "matrix", "finetune", "evaluate",
    "ood", "explain", "bundle", "results", "report", "study", "serve", "cli",
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


def find_circle(modules):
    """Give the names of a circle of imports, wherever in a file they stand, or nothing."""
    sorter = TopologicalSorter(modules)
    try:
        sorter.prepare()
    except CycleError as circle:
        return circle.args[1]
    return []


def imported_modules(file, root):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("meninx."):
            place = root.parent / node.module.replace(".", "/")
            inside = [place / f"{name.name}.py" for name in node.names]
            files = [one for one in inside if one.is_file()] or [place.with_suffix(".py")]
            yield from (one for one in files if one.is_file())
            above = [place, *place.parents]
            packages = above[: above.index(root)]
            yield from (
                one / "__init__.py" for one in packages if one.is_dir() and one not in file.parents
            )


def test_no_modules_import_one_another_in_a_circle():
    modules = {file: set(imported_modules(file, SOURCE)) for file in SOURCE.rglob("*.py")}
    assert find_circle(modules) == []


def test_a_planted_circle_is_found(tmp_path):
    root = tmp_path / "meninx"
    root.mkdir()
    for one, other in (("a", "b"), ("b", "a")):
        (root / f"{one}.py").write_text(f"def f():\n    from meninx.{other} import g\n")
    modules = {file: set(imported_modules(file, root)) for file in root.glob("*.py")}
    assert len(find_circle(modules)) == 3


def test_no_module_is_longer_than_400_lines():
    long = [file for file in SOURCE.rglob("*.py") if len(file.read_text().splitlines()) > 400]
    assert long == []


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
def test_help_needs_no_heavy_library(command):
    code = (
        f"import sys; sys.argv = ['meninx', *{command!r}]\n"
        "from meninx.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        # Typer has its own use for pydantic; ours is behind meninx.results.
        "heavy = {'torch', 'pandas', 'sklearn', 'matplotlib', 'meninx.results'}\n"
        "heavy &= set(sys.modules)\n"
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


def test_the_walk_in_contributing_names_each_file_once():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    walk = text[text.index("## A walk") : text.index("## How to")]
    named = []
    for section in walk.split("\n\n"):
        folder = section[2 : section.index("/**")] if section.startswith("**") else ""
        named += [Path(folder, name) for name in re.findall(r"`(\w+\.py)`", section)]
    there = [file.relative_to(SOURCE) for file in SOURCE.rglob("*.py") if file.stem != "__init__"]
    assert sorted(named) == sorted(there)

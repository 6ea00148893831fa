"""Records: one JSON line for each thing measured, with when and on what it was measured."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "timm", "scikit-learn", "numpy", "fastai")

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """Read a file of records; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def has_record(path: Path, **key: object) -> bool:
    """Tell whether there is a record with these values."""
    return any(
        all(record.get(name) == value for name, value in key.items())
        for record in read_records(path)
    )


def describe_origin() -> Record:
    """Say when it is, on what machine, with which software, and of which commit meninx is."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": _find_commit(),
        "load": round(os.getloadavg()[0], 2),
        "machine": _describe_machine(),
        "software": {name: found for name in PACKAGES if (found := _find_version(name))},
    }


def _describe_machine() -> str:
    """Describe the processor; two of one name may differ in what they multiply natively."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    about = {name.strip(): value.strip() for name, _, value in lines}
    flags = about.get("flags", "").split()
    native = [name for name in ("avx512_bf16", "amx_bf16") if name in flags]
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{about.get('model name', platform.processor())} (family {about.get('cpu family')}, "
        f"model {about.get('model')}, {' and '.join(native) or 'no bfloat16'}), "
        f"{os.cpu_count()} cores, {gibibytes:.0f} GiB of memory"
    )


def _find_commit() -> str:
    """Find the commit of the meninx that Python would import, which may be another checkout's."""
    spec = find_spec("meninx")
    if spec is None or spec.origin is None:
        raise SystemExit("there is no meninx to measure; set PYTHONPATH")
    folder = Path(spec.origin).parent
    changed = _ask_git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return _ask_git(folder, "rev-parse", "--short=10", "HEAD") + ("-changed" if changed else "")


def _ask_git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip()


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

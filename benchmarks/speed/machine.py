"""What a figure was measured on."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("meninx", "torch", "torchvision", "timm", "fastai", "scikit-learn", "numpy")


# It imports PyTorch in another process, which takes seconds.
@cache
def describe_machine() -> dict[str, object]:
    """Describe processor, memory and software."""
    words = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    about = {name.strip(): value.strip() for name, _, value in words}
    return {
        "processor": f"{about.get('model name', platform.processor())} "
        f"(family {about.get('cpu family')}, model {about.get('model')})",
        "cores": os.cpu_count(),
        "gibibytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "capabilities": _list_capabilities(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: _find_version(name) for name in PACKAGES},
    }


def describe_moment() -> dict[str, object]:
    """Describe when it is, of which commit, and how busy the machine is before a measurement."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    commit = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip() or "unknown",
        "load": round(os.getloadavg()[0], 2),
    }


def _list_capabilities() -> list[str]:
    """List what the processor can do.

    PyTorch is asked in a process of its own: loaded here, its libraries would be half counted
    for this process, and only half for those whose memory is measured.
    """
    question = (
        "import json, torch; capabilities = torch.cpu.get_capabilities().items(); "
        "print(json.dumps(sorted(name for name, value in capabilities if value is True)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=True
    )
    names: list[str] = json.loads(answer.stdout)
    return names


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

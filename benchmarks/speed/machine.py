"""What a figure was measured on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("meninx", "torch", "torchvision", "timm", "fastai", "scikit-learn", "numpy")


def describe_machine() -> dict[str, object]:
    """Describe processor, memory and software."""
    words = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    about = {name.strip(): value.strip() for name, _, value in words}
    return {
        "processor": f"{about.get('model name', platform.processor())} "
        f"(family {about.get('cpu family')}, model {about.get('model')})",
        "cores": os.cpu_count(),
        "gibibytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "capabilities": sorted(
            name for name, value in torch.cpu.get_capabilities().items() if value is True
        ),
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


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

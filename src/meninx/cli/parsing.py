"""Durations and prevalences as people write them on a command line."""

import re

from meninx.errors import StudyError

SECONDS = {"s": 1, "m": 60, "h": 3600}


def read_duration(text: str) -> float:
    """Read a duration such as ``90s``, ``5m`` or ``1.5h``, in seconds.

    Raises
    ------
    StudyError
        It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise StudyError(f"{text!r} is no duration; write it like 90s, 5m or 1h")
    return float(match[1]) * SECONDS[match[2]]


def write_duration(seconds: float) -> str:
    """Write a duration for people, no finer than it can be predicted: ``< 1 s``, ``8 min``."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def read_prevalence(text: str) -> dict[str, float]:
    """Read shares such as ``lm=0.1,normal=0.9``, class by class.

    Raises
    ------
    StudyError
        They are none, or do not add up to 1.
    """
    try:
        pairs = [part.rsplit("=", 1) for part in text.split(",")]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        shares = {}
    if not shares or abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) <= 0:
        raise StudyError(f"{text!r} are no prevalences; write lm=0.1,normal=0.9, adding up to 1")
    return shares

"""Pairs of images that someone who looked at them says are no copies.

In: a text file, a pair a line, as the audit names them. Out: rows of the cohort's samples.
"""

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from meninx.cohort.file_index import Entry, name_some
from meninx.cohort.sample import Sample
from meninx.errors import CohortError


def read_allowed_copies(
    file: Path, entries: Sequence[Entry], samples: Sequence[Sample]
) -> tuple[tuple[int, int], ...]:
    """Read which pairs are to be no copies.

    Parameters
    ----------
    file
        Two images a line, separated by a comma, or more where each pair of them is meant; named
        from the data folder, or by their whole paths. Empty lines and those that begin with #
        are passed over.
    entries
        What the cohort lists, whether it can be read or not.
    samples
        What could be read of it.

    Returns
    -------
    tuple of (int, int)
        Rows of the samples, the lower first, in ascending order.

    Raises
    ------
    CohortError
        The file cannot be read, or a line of it names no two images of the cohort.
    """
    known = {entry.name: entry.path for entry in entries}
    known |= {_make_absolute(entry.path): entry.path for entry in entries}
    rows_of = defaultdict(list)
    for row, sample in enumerate(samples):
        rows_of[sample.path].append(row)
    allowed: set[tuple[int, int]] = set()
    unknown = []
    for line, names in _read_lines(file):
        paths = [known.get(name) or known.get(_make_absolute(name)) for name in names]
        unknown += [name for name, path in zip(names, paths, strict=True) if path is None]
        if len(set(paths)) < 2:
            raise CohortError(f"{file}: line {line} must name two images, separated by a comma")
        for one, other in combinations([path for path in paths if path is not None], 2):
            allowed |= {
                (min(a, b), max(a, b)) for a in rows_of[one] for b in rows_of[other] if a != b
            }
    if unknown:
        raise CohortError(
            f"{file}: it names images that are not in the cohort: {name_some(unknown)}; name them "
            "from the data folder, as `meninx audit` does"
        )
    return tuple(sorted(allowed))


def _make_absolute(path: Path | str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links stay as they were given)


def _read_lines(file: Path) -> list[tuple[int, list[str]]]:
    """Give the names of each line, with its number."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, [name.strip() for name in row]) for row in reader]
    except FileNotFoundError:
        raise CohortError(f"{file}: there is no such file") from None
    except OSError as problem:
        raise CohortError(f"{file}: it cannot be read ({problem.strerror})") from None
    except (UnicodeDecodeError, csv.Error):
        raise CohortError(f"{file}: it is no text of pairs, comma-separated, in UTF-8") from None
    return [(line, names) for line, names in lines if any(names) and not names[0].startswith("#")]

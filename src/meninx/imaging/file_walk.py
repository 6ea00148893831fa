"""Every file below a folder, with nothing passed over in silence."""

import os
from collections.abc import Callable
from pathlib import Path

from meninx.errors import CohortError

# Files that live beside images and are passed over. Whatever is not named here must be a
# readable image, so that none is lost without a word.
JUNK_NAMES = {"thumbs.db", "desktop.ini", "dicomdir", "license", "readme"}
JUNK_SUFFIXES = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".html", ".log", ".ini"}
JUNK_SUFFIXES |= {".db", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".bval", ".bvec"}
JUNK_FOLDERS = {"masks", "__macosx"}


def walk_files(folder: Path, is_junk: Callable[[Path], bool]) -> list[Path]:
    """List the files below a folder, in the order of their names.

    Linked folders are followed, but not to a folder that they are in, at whatever height.

    Parameters
    ----------
    folder
        Where to begin.
    is_junk
        Says which paths, relative to `folder`, are passed over; a folder with all it holds.

    Raises
    ------
    CohortError
        A folder on the way cannot be read.
    """

    def refuse(problem: OSError) -> None:
        reason = os.strerror(problem.errno or 0)
        raise CohortError(f"{problem.filename}: this folder cannot be read ({reason})")

    files = []
    # Of a folder and of all it is in, up to the root.
    around = [folder, *folder.resolve().parents]
    identities = {os.fspath(folder): [_identify(place) for place in around]}
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        above = identities.pop(place)
        here = Path(place)
        entered = []
        for name in sorted(folders):
            identity = _identify(here / name)
            if identity not in above and not is_junk((here / name).relative_to(folder)):
                identities[os.path.join(place, name)] = [*above, identity]  # noqa: PTH118
                entered.append(name)
        folders[:] = entered
        files += [here / name for name in names if not is_junk((here / name).relative_to(folder))]
    return sorted(files)


def _identify(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_junk(relative: Path) -> bool:
    """Tell whether a path is hidden, a mask, or a kind of file that is no image."""
    return (
        any(part.startswith(".") or part.lower() in JUNK_FOLDERS for part in relative.parts)
        or relative.name.lower() in JUNK_NAMES
        or relative.suffix.lower() in JUNK_SUFFIXES
    )

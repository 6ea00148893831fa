"""Uploads: on disk for as long as it takes to read them."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.datastructures import UploadFile

# All of a client's file name that reaches the disk: readers of NIfTI go by it.
SUFFIX = re.compile(r"(\.nii)?\.[a-z0-9]{1,8}$", re.IGNORECASE)


@contextmanager
def keep_for_a_moment(upload: UploadFile) -> Iterator[Path]:
    """Copy an upload to a file that only this user can read, and remove it afterwards."""
    suffix = SUFFIX.search(upload.filename or "")
    # A folder, since Windows lets nobody open a temporary file a second time.
    with tempfile.TemporaryDirectory(prefix="meninx-") as folder:
        path = Path(folder) / f"upload{suffix.group() if suffix else ''}"
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file)
        yield path

"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from meninx.errors import OutputError


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file under another name first, flush it to disk, then rename it.

    A reader, or a run that goes on after a crash, meets the whole file or none, never half.
    Folders on the way are made.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(0o644)
            return draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error

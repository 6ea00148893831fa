"""Names in place of patients' and images' own, by a keyed hash whose key only the user has.

A plain hash of a hospital number is no secret: all numbers can be tried; and whoever has an image
can find a plain hash of its pixels. HMAC-SHA256 (RFC 2104) with a random key cannot be undone or
made again without the key file, and with it gives the same name again, so that later images of a
patient meet the earlier ones. No order and no score is made from these names.
"""

import contextlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meninx.errors import CohortError

KEY_BYTES = 32
DIGITS = 16  # hex, of each name given to a name
FEWEST_DIGITS = 8  # of each name given to content


@dataclass(frozen=True)
class Pseudonyms:
    """Gives names that only the holder of the key can make again."""

    key: bytes

    def __repr__(self) -> str:
        return "Pseudonyms(key=…)"

    @classmethod
    def open(cls, key_file: Path) -> "Pseudonyms":
        """Read the key, or make a new one that only this user may read (mode 600).

        Raises
        ------
        CohortError
            The file cannot be read or written, or holds no key.
        """
        try:
            if not key_file.exists():
                _make_key(key_file)
            key = bytes.fromhex(key_file.read_text(encoding="ascii").strip())
        except OSError as problem:
            raise CohortError(
                f"{key_file}: the key of the pseudonyms cannot be read or made ({problem.strerror})"
            ) from None
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise CohortError(
                f"{key_file}: it is no key of pseudonyms, which is {2 * KEY_BYTES} hex digits"
            )
        return cls(key)

    @classmethod
    def open_own(cls) -> "Pseudonyms":
        """Open the user's own key: ``MENINX_KEY``, or ``~/.config/meninx/pseudonyms.key``.

        It names patients and images in run folders. Whoever loses it can go on with no study that
        was begun with it, and compare it with no later one; nothing else is lost.

        Raises
        ------
        CohortError
            As of :meth:`open`, or there is no home folder to keep it in.
        """
        named = os.environ.get("MENINX_KEY")
        try:
            key_file = Path(named or Path.home() / ".config" / "meninx" / "pseudonyms.key")
        except RuntimeError:
            raise CohortError(
                "there is no home folder to keep the key of the pseudonyms in; name a file for it "
                "in the environment variable MENINX_KEY"
            ) from None
        return cls.open(key_file)

    @property
    def identity(self) -> str:
        """What tells this key from others, and tells nothing of it, 16 hex digits."""
        return self._digest("key", "")[:DIGITS]

    def give(self, kind: str, name: str) -> str:
        """Give the pseudonym of a name; `kind` is the letter in front, and part of the hash."""
        return f"{kind}-{self._digest(kind, name)[:DIGITS]}"

    def give_all(self, kind: str, contents: Sequence[str]) -> list[str]:
        """Give short pseudonyms to items known by their content, no two alike.

        They have as many digits as tell different contents apart, at least eight. The second item
        of the same content gets -2 after it, the third -3.
        """
        digests = [self._digest(kind, content) for content in contents]
        return [f"{kind}-{name}" for name in shorten_digests(digests)]

    def _digest(self, kind: str, name: str) -> str:
        message = f"{kind}\0{name}".encode("utf-8", "surrogateescape")
        return hmac.new(self.key, message, "sha256").hexdigest()


def shorten_digests(digests: Sequence[str]) -> list[str]:
    """Keep the first digits of each, as many as are needed; equal ones get -2, -3 after it."""
    distinct = set(digests)
    length = FEWEST_DIGITS
    while len({digest[:length] for digest in distinct}) < len(distinct):
        length += 1
    seen: Counter[str] = Counter()
    names = []
    for digest in digests:
        seen[digest] += 1
        repeat = f"-{seen[digest]}" if seen[digest] > 1 else ""
        names.append(f"{digest[:length]}{repeat}")
    return names


def _make_key(key_file: Path) -> None:
    key_file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # made by another study in this very moment
        handle = os.open(key_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")

"""Names in place of patients' own, by a keyed hash whose key only the user has.

A plain hash of a hospital number is no secret: all numbers can be tried. HMAC-SHA256 (RFC 2104)
with a random key cannot be undone without the key file, and with it gives the same name again,
so that later images of a patient meet the earlier ones.
"""

import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from meninx.errors import CohortError

KEY_BYTES = 32
DIGITS = 16  # hex, of each name


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
                key_file.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(key_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(secrets.token_hex(KEY_BYTES) + "\n")
            text = key_file.read_text(encoding="ascii")
            key = bytes.fromhex(text.strip())
        except OSError as problem:
            raise CohortError(
                f"{key_file}: the key cannot be read or made ({problem.strerror})"
            ) from None
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise CohortError(f"{key_file}: it is no key; a key is {2 * KEY_BYTES} hex digits")
        return cls(key)

    def give(self, kind: str, name: str) -> str:
        """Give the pseudonym of a name; `kind` is the letter in front, and part of the hash."""
        message = f"{kind}\0{name}".encode("utf-8", "surrogateescape")
        return f"{kind}-{hmac.new(self.key, message, 'sha256').hexdigest()[:DIGITS]}"

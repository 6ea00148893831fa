"""Near-duplicates: one picture in two files, which must not be on two sides of a split.

In: samples. Out: the pairs that show the same picture. Thumbnails propose pairs (search), they are
laid over one another (registration), read again and compared in detail (agreement, confirm);
pairs that someone looked at and allowed are left alone (allowed).
"""

from meninx.cohort.near_duplicates.allowed import read_allowed_copies
from meninx.cohort.near_duplicates.confirm import find_copies

__all__ = ["find_copies", "read_allowed_copies"]

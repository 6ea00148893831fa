"""What is said to people, in English and Indonesian; every stage may use it, and it uses none.

In: a code and its values. Out: a sentence of either language. Sentences stand in the catalogues
`en.toml` and `id.toml` beside this file; :mod:`meninx.language.words` is the report's way to them.
"""

from meninx.language.message import Message

__all__ = ["Message"]

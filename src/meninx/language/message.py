"""A message: a code with values, from which each language makes its sentence."""

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

ENGLISH = "en"
SIGNS = {"en": (".", ","), "id": (",", ".")}  # decimal, thousands
SECTION = "message"  # of the catalogues

Value: TypeAlias = "int | float | str | Message | tuple[Message, ...]"


@dataclass(frozen=True, init=False)
class Message:
    """Something to say, in whatever language.

    Attributes
    ----------
    code
        A key of the catalogues' section `message`.
    values
        What the sentence's placeholders stand for: numbers, names, other messages.

    Examples
    --------
    >>> message = Message("size_few", images=17.7, threshold=1000)
    >>> message.text
    '18 images per class are few (the threshold is 1,000).'
    >>> message.tell("id")
    '18 citra per kelas tergolong sedikit (ambangnya 1.000).'
    """

    code: str
    values: Mapping[str, Value] = field(hash=False)

    def __init__(self, code: str, /, **values: Value) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "values", values)

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The English sentence."""
        return self.tell(ENGLISH)

    def tell(self, language: str) -> str:
        """Make the sentence of a language."""
        sentence = read_catalogue(language)[f"{SECTION}.{self.code}"]
        return _Sentence(language).vformat(sentence, (), self.values)

    def as_dict(self) -> dict[str, Any]:
        """Give the message as a JSON file holds it."""
        values = {name: _as_json(value) for name, value in self.values.items()}
        return {"code": self.code, "values": values}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Message":
        """Read what :meth:`as_dict` gave."""
        values = {name: _from_json(value) for name, value in content["values"].items()}
        return cls(content["code"], **values)


class _Sentence(string.Formatter):
    """Fills a sentence as a language writes numbers and terms.

    A number has the placeholder's format (`{kl:.3f}`). A name stays itself, unless the placeholder
    says which section of the catalogue translates it (`{fact:term}`).
    """

    def __init__(self, language: str) -> None:
        self.language = language

    def format_field(self, value: Value, format_spec: str) -> str:
        if isinstance(value, Message):
            return value.tell(self.language)
        if isinstance(value, tuple):
            return "; ".join(message.tell(self.language) for message in value)
        if isinstance(value, str):
            return read_catalogue(self.language).get(f"{format_spec}.{value}", value)
        return format(value, format_spec).translate(swap_signs(self.language))


def swap_signs(language: str) -> dict[int, str]:
    """Map the signs of a number in code to those of a language, for `str.translate`."""
    decimal, thousands = SIGNS[language]
    return str.maketrans({".": decimal, ",": thousands, "-": "−"})


@cache
def read_catalogue(language: str) -> Mapping[str, str]:
    """Read a catalogue: dotted key, such as `answer.title`, to sentence with placeholders."""
    content = files("meninx.language").joinpath(f"{language}.toml").read_text(encoding="utf-8")
    return {
        f"{section}.{name}": sentence
        for section, names in tomllib.loads(content).items()
        for name, sentence in names.items()
    }


def _as_json(value: Value) -> object:
    if isinstance(value, tuple):
        return [message.as_dict() for message in value]
    return value.as_dict() if isinstance(value, Message) else value


def _from_json(value: Any) -> Value:  # noqa: ANN401
    if isinstance(value, list):
        return tuple(Message.from_dict(one) for one in value)
    read: Value = Message.from_dict(value) if isinstance(value, dict) else value
    return read

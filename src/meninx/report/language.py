"""The words of the report: every sentence and label, in English and Indonesian."""

import math
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from meninx.errors import StudyError

ENGLISH = "en"  # as the other stages write
LANGUAGES = (ENGLISH, "id")
MISSING = "–"  # stands where a number cannot be computed
SMALLEST_PROBABILITY = 0.001  # below it a p-value is not written out
_ENGLISH_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")
_COUNTED_REASON = re.compile(r"(?:^|; )(\d+): (.+?)(?=; \d+: |$)")
_PLACEHOLDER = re.compile(r"\\\{(\w+)\\\}")  # as `re.escape` leaves it
_SEPARATORS = {"en": (".", ","), "id": (",", ".")}  # decimal, thousands


@dataclass(frozen=True)
class Words:
    """A catalogue of sentences in one language.

    Attributes
    ----------
    language
        `en` or `id`.
    sentences
        Dotted key, such as `answer.title`, to sentence with `{placeholders}`.
    """

    language: str
    sentences: dict[str, str]

    @classmethod
    def load(cls, language: str) -> "Words":
        """Load the catalogue of a language.

        Raises
        ------
        StudyError
            If the report does not speak the language.
        """
        if language not in LANGUAGES:
            raise StudyError(
                f"the report has no language {language!r}; choose one of {', '.join(LANGUAGES)}"
            )
        return cls(language, _read_catalogue(language))

    def __call__(self, key: str, **values: object) -> str:
        """Give a sentence with its placeholders filled."""
        return self.sentences[key].format(**values)

    def name(self, section: str, key: str | None) -> str:
        """Translate a name that a file holds; a name unknown to the catalogue stays itself."""
        return self.sentences.get(f"{section}.{key}", key or MISSING)

    def translate(self, sentence: str) -> str:
        """Tell a sentence that a file of the run holds, which is English, in this language.

        It is recognised by the section `told` of the English catalogue; one that is not there
        stays itself.
        """
        return self._find_told(sentence) or sentence

    def _find_told(self, sentence: str) -> str | None:
        """Tell a sentence that a file of the run holds, if the catalogue knows it."""
        for key, pattern in _compile_told():
            if match := pattern.fullmatch(sentence):
                values = {name: self._rewrite(value) for name, value in match.groupdict().items()}
                return self(key, **values)
        return None

    def _rewrite(self, value: str) -> str:
        """Write a part of an English sentence as this language does: a number, a term, reasons."""
        if _ENGLISH_NUMBER.fullmatch(value):
            return value.translate(_swap_signs(self.language))
        if reasons := _COUNTED_REASON.findall(value):
            return "; ".join(f"{count}: {self._tell_reason(reason)}" for count, reason in reasons)
        return self.name("term", value)

    def _tell_reason(self, reason: str) -> str:
        """Tell why an image cannot be used; readers word that in more ways than are known here."""
        unknown = reason if self.language == ENGLISH else self("notes.other_reason")
        return self._find_told(reason) or unknown

    def number(self, value: float | None, decimals: int = 2) -> str:
        """Write a number as the language does."""
        return format_number(value, self.language, decimals)

    def between(self, low: float | None, high: float | None, decimals: int = 2) -> str:
        """Write an interval as "0.61 to 0.86"."""
        return self(
            "number.between", low=self.number(low, decimals), high=self.number(high, decimals)
        )

    def estimate(
        self, value: float | None, low: float | None, high: float | None, decimals: int = 2
    ) -> str:
        """Write a value with its interval: "0.74 (0.61 to 0.86)"."""
        if value is None or low is None or high is None:
            return self.number(value, decimals)
        return f"{self.number(value, decimals)} ({self.between(low, high, decimals)})"

    def probability(self, value: float | None) -> str:
        """Write a p-value with three decimals, or as smaller than the smallest of them."""
        if value is not None and value < SMALLEST_PROBABILITY:
            return self("number.below", value=self.number(SMALLEST_PROBABILITY, 3))
        return self.number(value, 3)

    def seconds(self, value: float | None) -> str:
        """Write a duration in whole seconds, or as shorter than one."""
        if value is not None and value < 1:
            return self("number.below", value=self.number(1, 0))
        return self.number(value, 0)

    def p_value(self, value: float) -> str:
        """Write a p-value as a statement: "p = 0.012", "p < 0.001"."""
        if value < SMALLEST_PROBABILITY:
            return self("number.p_below", value=self.number(SMALLEST_PROBABILITY, 3))
        return self("number.p_equals", value=self.number(value, 3))

    def percent(self, share: float | None) -> str:
        """Write a share in [0, 1] as whole percent."""
        if share is None or not math.isfinite(share):
            return MISSING
        return self("number.percent", value=self.number(100 * share, 0))


def format_number(value: float | None, language: str, decimals: int = 2) -> str:
    """Write a number with the decimal and thousands signs of a language.

    Parameters
    ----------
    value
        The number; `None` or not finite gives a dash.
    language
        `en` (1,234.5) or `id` (1.234,5).
    decimals
        How many digits after the decimal sign.

    Examples
    --------
    >>> format_number(1234.5, "id", 1)
    '1.234,5'
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")  # no "-0.00"
    return text.translate(_swap_signs(language))


def _swap_signs(language: str) -> dict[int, str]:
    """Tell which signs stand in a language for those of a number in code."""
    decimal, thousands = _SEPARATORS[language]
    return str.maketrans({".": decimal, ",": thousands, "-": "−"})


def _read_catalogue(language: str) -> dict[str, str]:
    catalogue = files("meninx.report").joinpath("words", f"{language}.toml")
    sections = tomllib.loads(catalogue.read_text(encoding="utf-8"))
    return {
        f"{section}.{name}": sentence
        for section, names in sections.items()
        for name, sentence in names.items()
    }


@cache
def _compile_told() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Make a pattern of each sentence that other stages write, with a group a placeholder."""
    return tuple(
        (key, re.compile(_PLACEHOLDER.sub(r"(?P<\1>.+?)", re.escape(sentence))))
        for key, sentence in _read_catalogue(ENGLISH).items()
        if key.startswith("told.")
    )

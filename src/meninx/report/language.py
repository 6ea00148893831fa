"""The words of the report: every sentence and label, in English and Indonesian."""

import math
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from meninx.errors import StudyError

LANGUAGES = ("en", "id")
MISSING = "–"  # stands where a number cannot be computed
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
        catalogue = files("meninx.report").joinpath("words", f"{language}.toml")
        sections = tomllib.loads(catalogue.read_text(encoding="utf-8"))
        sentences = {
            f"{section}.{name}": sentence
            for section, names in sections.items()
            for name, sentence in names.items()
        }
        return cls(language, sentences)

    def __call__(self, key: str, **values: object) -> str:
        """Give a sentence with its placeholders filled."""
        return self.sentences[key].format(**values)

    def name(self, section: str, key: str | None) -> str:
        """Translate a name that a file holds; a name unknown to the catalogue stays itself."""
        return self.sentences.get(f"{section}.{key}", key or MISSING)

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
    decimal, thousands = _SEPARATORS[language]
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")  # no "-0.00"
    signs = str.maketrans({".": decimal, ",": thousands, "-": "−"})
    return text.translate(signs)

"""The words of the report: every sentence and label, in English and Indonesian."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meninx.errors import StudyError
from meninx.language.message import SIGNS, Message, read_catalogue, swap_signs

LANGUAGES = tuple(SIGNS)
MISSING = "–"  # stands where a number cannot be computed
SMALLEST_PROBABILITY = 0.001  # below it a p-value is not written out


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
    sentences: Mapping[str, str]

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
        return cls(language, read_catalogue(language))

    def __call__(self, key: str, **values: object) -> str:
        """Give a sentence with its placeholders filled."""
        return self.sentences[key].format(**values)

    def name(self, section: str, key: str | None) -> str:
        """Translate a name that a file holds; a name unknown to the catalogue stays itself."""
        return self.sentences.get(f"{section}.{key}", key or MISSING)

    def tell(self, message: Message | Mapping[str, Any]) -> str:
        """Make the sentence of a message, or of one as a file of the run holds it.

        Raises
        ------
        StudyError
            The catalogue has no such message, or one of other values.
        """
        try:
            found = message if isinstance(message, Message) else Message.from_dict(message)
            return found.tell(self.language)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StudyError(f"there is no message {message!r}; run the study again") from error

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
    return text.translate(swap_signs(language))

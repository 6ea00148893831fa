r"""Text for LaTeX, in ASCII alone, so that any engine and any input encoding can set it.

A class may be named in any script. Accented Latin letters become LaTeX's accents and Greek
letters its symbols. What pdfLaTeX has no command for stands in ``\meninxsign``: LuaLaTeX and
XeLaTeX set the sign, if the document's font has it, pdfLaTeX its number.
"""

import unicodedata

_SIGNS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # some languages of babel make a command of it
    # After a line's end they would be read as its options.
    "[": "{[}",
    "*": "{*}",
    "\N{HYPHEN}": "-",
    "\N{NON-BREAKING HYPHEN}": "-",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{MINUS SIGN}": "$-$",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{DIVISION SIGN}": r"$\div$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{DEGREE SIGN}": r"${}^{\circ}$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{MICRO SIGN}": r"$\mu$",
    "\N{SUPERSCRIPT ONE}": "${}^{1}$",
    "\N{SUPERSCRIPT TWO}": "${}^{2}$",
    "\N{SUPERSCRIPT THREE}": "${}^{3}$",
    "\N{LATIN SMALL LETTER SHARP S}": r"\ss{}",
    "\N{LATIN SMALL LETTER AE}": r"\ae{}",
    "\N{LATIN CAPITAL LETTER AE}": r"\AE{}",
    "\N{LATIN SMALL LIGATURE OE}": r"\oe{}",
    "\N{LATIN CAPITAL LIGATURE OE}": r"\OE{}",
    "\N{LATIN SMALL LETTER O WITH STROKE}": r"\o{}",
    "\N{LATIN CAPITAL LETTER O WITH STROKE}": r"\O{}",
    "\N{LATIN SMALL LETTER L WITH STROKE}": r"\l{}",
    "\N{LATIN CAPITAL LETTER L WITH STROKE}": r"\L{}",
    "\N{LATIN SMALL LETTER DOTLESS I}": r"\i{}",
}
# Combining marks to accents that every font encoding of pdfLaTeX has.
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": r"\`",
    "\N{COMBINING ACUTE ACCENT}": r"\'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": r"\^",
    "\N{COMBINING TILDE}": r"\~",
    "\N{COMBINING MACRON}": r"\=",
    "\N{COMBINING BREVE}": r"\u",
    "\N{COMBINING DOT ABOVE}": r"\.",
    "\N{COMBINING DIAERESIS}": r"\"",
    "\N{COMBINING RING ABOVE}": r"\r",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": r"\H",
    "\N{COMBINING CARON}": r"\v",
    "\N{COMBINING CEDILLA}": r"\c",
    "\N{COMBINING DOT BELOW}": r"\d",
    "\N{COMBINING MACRON BELOW}": r"\b",
}
_DOTLESS = {"i": r"\i", "j": r"\j"}  # under an accent
# Greek letters that have a command in mathematics; others look like Latin ones.
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi",
    "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi",
    "Omega",
}  # fmt: skip
_SIGN_COMMAND = r"\meninxsign"
# `\Umathcode` exists in LuaTeX and XeTeX alone. pdfTeX skips the sign without looking at it.
SIGN_DEFINITION = (
    "% Signs that pdfLaTeX has no command for: LuaLaTeX or XeLaTeX, with a font that has them,\n"
    "% set them; pdfLaTeX sets their numbers.\n"
    r"\providecommand{\meninxsign}[2]{\ifdefined\Umathcode\symbol{#1}\else\texttt{#2}\fi}"
)


def escape_latex(text: str) -> str:
    r"""Make text safe for LaTeX, sign by sign; what comes out is ASCII.

    Examples
    --------
    >>> print(escape_latex("50%_a&b"))
    50\%\_a\&b
    >>> print(escape_latex("Ménière"))
    M\'{e}ni\`{e}re
    """
    return "".join(_escape(sign) for sign in unicodedata.normalize("NFC", " ".join(text.split())))


def has_foreign_signs(latex: str) -> bool:
    """Tell whether escaped text needs :data:`SIGN_DEFINITION`."""
    return _SIGN_COMMAND in latex


def _escape(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign.isascii():
        return sign if sign.isprintable() else ""
    if unicodedata.category(sign) in ("Cc", "Cf"):
        return ""  # invisible
    return _name_greek(sign) or _set_accents(sign) or _number(sign)


def _name_greek(sign: str) -> str:
    kind, _, name = unicodedata.name(sign, "").partition(" LETTER ")
    command = {"GREEK SMALL": name.lower(), "GREEK CAPITAL": name.capitalize()}.get(kind, "")
    command = command.replace("amda", "ambda")  # as Unicode spells it
    return rf"$\{command}$" if command in _GREEK else ""


def _set_accents(sign: str) -> str:
    parts = unicodedata.normalize("NFD", sign)
    letter, marks = parts[0], parts[1:]
    if not marks or not letter.isascii() or not all(mark in _ACCENTS for mark in marks):
        return ""
    accented = _DOTLESS.get(letter, letter)
    for mark in marks:
        accented = f"{_ACCENTS[mark]}{{{accented}}}"
    return accented


def _number(sign: str) -> str:
    return f"{_SIGN_COMMAND}{{{ord(sign)}}}{{U+{ord(sign):04X}}}"

"""LaTeX to MathML while the site is built, so that pages need no script and no network."""

from __future__ import annotations

import html
import re

from math_core import LatexError, LatexToMathML

FORMULA = re.compile(
    r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>'
    r'|<div class="arithmatex">\s*\\\[(?P<block>.*?)\\\]\s*</div>',
    re.DOTALL,
)
CONVERTER = LatexToMathML()


class FormulaError(Exception):
    """A formula that cannot be read."""


def rendered(page: str) -> str:
    """Return the HTML of a page with its formulas as MathML.

    Raises
    ------
    FormulaError
        For a formula that cannot be read, with its text.
    """
    return FORMULA.sub(_formula, page)


def _formula(match: re.Match[str]) -> str:
    inline = match["inline"] is not None
    latex = html.unescape(match["inline"] if inline else match["block"]).strip()
    try:
        made = str(CONVERTER.convert_with_local_state(latex, displaystyle=not inline))
    except LatexError as error:
        raise FormulaError(f"{latex}\n{error}") from error
    # the accents of some fonts that are common without a font for mathematics would fall into the letter
    made = made.replace('<mover accent="true">', "<mover>")
    return made if inline else f'<div class="formula">{made}</div>'

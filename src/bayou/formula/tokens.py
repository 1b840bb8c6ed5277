"""Formula text to tokens: the first half of the white list."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bayou.errors import FormulaError, UnsafeFormula
from bayou.formula.words import forbidden_name

__all__ = ["Token", "tokenize"]

max_length = 10_000

_pattern = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[^\W\d]\w*(?:\.\w+)*)
      | (?P<quoted>`(?:[^`]|``)+`)
      | (?P<text>"(?:[^"\\]|\\["'\\])*"|'(?:[^'\\]|\\["'\\])*')
      | (?P<operator>\*\*|\|\||%in%|%%|<=|>=|==|!=|[-+*/:^|~(),<>=\[\]])""",
    re.VERBOSE,
)
_escape = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a formula: its kind (number, name, quoted, text, operator, end), text and place."""

    kind: str
    text: str
    start: int


def tokenize(text: str, limited: bool = True) -> list[Token]:
    """Split a formula into tokens; anything outside the language is refused here.

    The limit on the length does not hold for text that was written out from a formula within it.

    Raises
    ------
    UnsafeFormula
        For more than 10,000 characters, dunder names, attribute access and characters such as
        ``;``, ``@``, ``{`` or ``$``.
    FormulaError
        For an unfinished quotation.
    """
    if limited and len(text) > max_length:
        raise UnsafeFormula(f"the formula has {len(text):,} characters; the limit is {max_length:,}.")
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        match = _pattern.match(text, place)
        if match is None:
            raise _refusal(text, place)
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(_token(kind, match.group(), place, tokens[-1] if tokens else None))
        place = match.end()
    tokens.append(Token("end", "", place))
    return tokens


def _token(kind: str, word: str, place: int, before: Token | None) -> Token:
    if kind == "name":
        if forbidden_name(word):
            raise UnsafeFormula(
                f"`{word}` (character {place + 1}) is not allowed in a formula; if it is a column, "
                f"write it in backquotes."
            )
        if before is not None and before.kind == "number" and before.start + len(before.text) == place:
            raise FormulaError(
                f"`{before.text}{word}` (character {before.start + 1}) is neither a number nor a name; "
                f"a column name that begins with a digit goes in backquotes."
            )
    elif kind == "quoted":
        word = word[1:-1].replace("``", "`")
    elif kind == "text":
        word = _escape.sub(r"\1", word[1:-1])
    return Token(kind, word, place)


def _refusal(text: str, place: int) -> FormulaError:
    character = text[place]
    where = f"at character {place + 1} of {_excerpt(text, place)}"
    if character in "\"'`":
        return FormulaError(f"the quotation that begins {where} does not end, or holds an escape.")
    if character == ".":
        if text[:place].rstrip().endswith(("~", "+", "(")) or not text[:place].strip():
            return FormulaError(f"`.` {where}: name the columns one by one.")
        return UnsafeFormula(f"attribute access is not allowed in a formula: `.` {where}.")
    return UnsafeFormula(
        f"the character {character!r} is not allowed in a formula ({where}); "
        f"if it belongs to a column name, write the name in backquotes."
    )


def _excerpt(text: str, place: int) -> str:
    return repr(text[max(0, place - 20) : place + 20])

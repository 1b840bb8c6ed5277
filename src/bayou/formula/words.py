"""Words for messages: the nearest known name, names in backquotes, the first few rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "did_you_mean",
    "first_rows",
    "forbidden_name",
    "label_text",
    "listing",
    "plain_name",
    "plural",
    "quoted",
]

_bare = re.compile(r"[^\W\d]\w*(?:\.\w+)*")
_printable = re.compile(r"[\w. ]+")
_constants = frozenset({"TRUE", "FALSE", "True", "False"})
_forbidden = frozenset({"lambda", "import"})


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean `x`?" when a known word is near, else the empty string."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" Did you mean `{by_lower[near[0]]}`?" if near else ""


def forbidden_name(name: str) -> bool:
    """Tell whether a bare name is outside the language: dunder, private attribute, lambda, import."""
    return name.startswith("__") or "._" in name or name in _forbidden


def quoted(name: str) -> str:
    """Write a column name as a formula needs it: bare where that reads back, else in backquotes."""
    if _bare.fullmatch(name) and name not in _constants and not forbidden_name(name):
        return name
    return "`" + name.replace("`", "``") + "`"


def plain_name(name: str) -> str:
    """Write a column name for a printed coefficient: backquotes only where it could be mistaken."""
    if name == "Intercept":
        return "`Intercept`"
    return name if _printable.fullmatch(name) else quoted(name)


def label_text(label: Any) -> str:
    """Write a level as it stands in the name of a coefficient: 2.0 is "2", True is "True"."""
    if isinstance(label, float) and label.is_integer() and abs(label) < 1e15:
        return str(int(label))
    return str(label)


def plural(count: int, noun: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listing(words: Sequence[object], limit: int = 8) -> str:
    """Join words with commas and cut a long list short, saying how many there are."""
    shown = ", ".join(str(word) for word in words[:limit])
    return shown if len(words) <= limit else f"{shown}, … ({len(words):,} in all)"


def first_rows(where: np.ndarray[Any, Any], limit: int = 5) -> str:
    """Say how many rows a mask or an array of positions holds and name the first, counted from 0."""
    rows = np.flatnonzero(where) if where.dtype == np.bool_ else where
    shown = ", ".join(str(int(row)) for row in rows[:limit])
    more = ", …" if rows.size > limit else ""
    return f"{plural(rows.size, 'row')} (row {shown}{more}; counted from 0)"

r"""Examples that run: the blocks of a page, executed in order in one namespace, with what they print and draw.

A block is a fence that begins with three backticks and ``python exec``; what follows on that line are its options:

``hide``
    Run it, show neither the code nor what it prints.
``alt="…"``
    What the picture shows, in words.
``markdown``
    What it prints is part of the page: a table.
``raises=Unsupported``
    It must end with this error of bayou, whose words are shown.
``off``
    Show the code and do not run it (what it is of has not landed).

Between blocks, ``{= expression =}`` in the text stands for the value of the expression at that place. Where the last
line of a block is a matplotlib figure, a picture is shown, and where it is a data frame, a table.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import os
import re
import shlex
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PIECE = re.compile(
    r"^```python exec(?P<options>[^\n]*)\n(?P<code>.*?)^```[ ]*$|\{=(?P<inline>.+?)=\}", re.MULTILINE | re.DOTALL
)

DIGITS = "{:.4g}"  # of numbers in a table


@dataclass(frozen=True)
class Piece:
    """A block, or an expression within the text.

    Attributes
    ----------
    code
        The source.
    line
        Of the page, where the source begins.
    start, end
        Place in the text of the page.
    inline
        Whether it is an expression within the text.
    options
        By name; True for those without a value.
    """

    code: str
    line: int
    start: int
    end: int
    inline: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """What a piece printed, and its pictures as PNG."""

    text: str = ""
    pictures: tuple[bytes, ...] = ()


class BlockError(Exception):
    """A block of a page did not run."""


def pieces(text: str) -> list[Piece]:
    """Return the blocks and expressions of a page in their order."""
    found = []
    for match in PIECE.finditer(text):
        inline = match["inline"] is not None
        code = match["inline"].strip() if inline else match["code"]
        begins = match.start("inline" if inline else "code")
        options = {} if inline else _options(match["options"])
        found.append(Piece(code, text.count("\n", 0, begins) + 1, match.start(), match.end(), inline, options))
    return found


def run(text: str, page: str, warm: bool = False) -> list[Shown]:
    """Run all pieces of a page in one namespace, in a folder of their own, with warnings as errors.

    With ``warm`` they are run once more where kernels had to be compiled, since the seconds that they print would be
    those of the compiler.

    Raises
    ------
    BlockError
        Naming the page and the line.
    """
    import matplotlib

    matplotlib.use("agg")
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    said = io.StringIO()
    with _elsewhere(), warnings.catch_warnings(), contextlib.redirect_stderr(said):
        warnings.simplefilter("error")
        shown = [_run(piece, namespace, page) for piece in pieces(text)]
    return run(text, page) if warm and "compiling" in said.getvalue() else shown


def written(text: str, shown: list[Shown], place: str) -> str:
    """Return the page with what its pieces print and draw; pictures are at ``place`` followed by a number and .png."""
    parts: list[str] = []
    at = number = 0
    for piece, what in zip(pieces(text), shown, strict=True):
        parts.append(text[at : piece.start])
        at = piece.end
        if piece.inline:
            parts.append(what.text)
            continue
        if "hide" not in piece.options:
            parts.append(f"```python\n{piece.code}```\n")
            if "markdown" in piece.options:
                parts.append(f"\n{what.text.strip()}\n")
            elif what.text.strip():
                parts.append(f"\n``` {{ .text .printed }}\n{what.text.rstrip()}\n```\n")
        for _ in what.pictures:
            parts.append(f"\n![{piece.options.get('alt', 'Picture')}]({place}{number}.png)\n")
            number += 1
    return "".join([*parts, text[at:]])


def _options(text: str) -> dict[str, Any]:
    """Read ``hide alt="some words"``."""
    pairs = [word.partition("=") for word in shlex.split(text)]
    return {name: value if equals else True for name, equals, value in pairs}


def _run(piece: Piece, namespace: dict[str, Any], page: str) -> Shown:
    """Run one piece."""
    if "off" in piece.options:
        return Shown()
    name = f"{page}:{piece.line}"
    linecache.cache[name] = (len(piece.code), None, piece.code.splitlines(True), name)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            value = _value(piece.code, namespace, name, piece.options.get("raises"))
    except Exception as error:
        raise BlockError(f"{page}, the block at line {piece.line}:\n{traceback.format_exc()}") from error
    if piece.inline:
        return Shown(str(value))
    figures = [value] if hasattr(value, "savefig") else []
    if value is not None and not figures:
        print(value.to_string(float_format=DIGITS.format) if hasattr(value, "to_string") else value, file=printed)
    return Shown(printed.getvalue(), tuple(_png(figure) for figure in figures))


def _value(code: str, namespace: dict[str, Any], name: str, raises: str | None) -> Any:
    """Run statements and return the value of the last one, if it is an expression; or the error that it must raise."""
    tree = ast.parse(code, name)
    last = tree.body[-1] if tree.body else None
    asked = None
    if isinstance(last, ast.Expr):
        asked = ast.Expression(last.value)
        del tree.body[-1]
    try:
        exec(compile(tree, name, "exec"), namespace)
        value = eval(compile(asked, name, "eval"), namespace) if asked is not None else None
    except ValueError as error:
        if raises is None or type(error).__name__ != raises:
            raise
        return f"{raises}: {error}"
    if raises is not None:
        raise BlockError(f"{raises} was expected and did not come")
    return value


def _png(figure: Any) -> bytes:
    """Return a figure as PNG, and forget it."""
    from matplotlib import pyplot

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=144, metadata={"Software": None})
    pyplot.close("all")
    return picture.getvalue()


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in a folder that goes away: blocks may save files."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)

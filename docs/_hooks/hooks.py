"""What mkdocs calls: blocks are run before a page becomes HTML, formulas are set after."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import logging
import time
from pathlib import Path
from typing import Any

import blocks
import mathematics
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

LOG = logging.getLogger("mkdocs.hooks.bayou")
ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "docs"
LIBRARIES = ("numpy", "scipy", "numba", "pandas", "matplotlib", "nutpie")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Run the blocks of a page, or take what they showed when nothing has changed since."""
    if not blocks.pieces(markdown):
        return markdown
    source = page.file.src_uri
    shown = _kept(markdown, source)
    stem = Path(source).stem
    number = 0
    for what in shown:
        for picture in what.pictures:
            place = str(Path(source).parent / f"{stem}-{number}.png")
            files.append(File.generated(config, place, content=picture))
            number += 1
    return blocks.written(markdown, shown, f"{stem}-")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Set the formulas."""
    try:
        return mathematics.rendered(html)
    except mathematics.FormulaError as error:
        raise PluginError(f"{page.file.src_uri}: a formula cannot be read: {error}") from error


def _kept(markdown: str, source: str) -> list[blocks.Shown]:
    """Return what the blocks of a page show, from the cache if code, library and blocks are the same."""
    key = hashlib.sha256(repr([(p.code, p.options) for p in blocks.pieces(markdown)]).encode() + _house()).hexdigest()
    path = CACHE / (source.replace("/", "-") + ".json")
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["key"] == key:
            return [
                blocks.Shown(one["text"], tuple(base64.b64decode(p) for p in one["pictures"])) for one in kept["shown"]
            ]
    began = time.perf_counter()
    try:
        shown = blocks.run(markdown, source, warm=True)
    except blocks.BlockError as error:
        raise PluginError(str(error)) from error
    LOG.info("%s: blocks ran in %.1f s", source, time.perf_counter() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [{"text": one.text, "pictures": [base64.b64encode(p).decode() for p in one.pictures]} for one in shown]
    path.write_text(json.dumps({"key": key, "shown": kept}))
    return shown


def _house() -> bytes:
    """Return a digest of everything but the blocks that decides what they show."""
    digest = hashlib.sha256()
    for path in [*sorted((ROOT / "src").rglob("*.py")), Path(blocks.__file__)]:
        digest.update(path.read_bytes())
    for name in LIBRARIES:
        try:
            digest.update(f"{name} {importlib.metadata.version(name)}".encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(name.encode())
    return digest.digest()

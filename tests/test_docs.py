"""The documentation: every example runs, every link leads somewhere, every public name is there."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import bayou

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$`])\$(?P<inline>[^$\n][^$]*?)\$(?!\$)", re.DOTALL)


def _hook(name: str) -> ModuleType:
    """Load a file of docs/_hooks."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "_hooks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


blocks = _hook("blocks")


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def _prose(page: str) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```", "", _text(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]+`", "", text)


def _anchors(page: str) -> set[str]:
    """What the headings of a page are called in links."""
    text = re.sub(r"^```.*?^```", "", _text(page), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.replace("`", "")).strip().lower()) for title in titles}


def _resolved(name: str) -> object:
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks.pieces(_text(page))])
def test_examples_run(page: str) -> None:
    text = _text(page)
    shown = blocks.run(text, page)
    page_with_outputs = blocks.written(text, shown, "picture-")
    assert "python exec" not in page_with_outputs
    assert "{=" not in page_with_outputs
    for piece, what in zip(blocks.pieces(text), shown, strict=True):
        assert not what.pictures or piece.options.get("alt"), f"{page}, line {piece.line}: a picture without words"


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_read(page: str) -> None:
    # a fence with a slip in it would be shown and never run
    fences = re.findall(r"^```[^\n]*exec[^\n]*$", _text(page), flags=re.MULTILINE)
    assert len(fences) == sum(not piece.inline for piece in blocks.pieces(_text(page)))


def test_what_is_there_is_not_left_out() -> None:
    from bayou.engines import NAMES

    off = {(page, piece.options["off"]) for page in PAGES for piece in blocks.pieces(_text(page)) if "off" in piece.options}
    assert not [one for one in off if one[1] in NAMES or hasattr(bayou, str(one[1]))]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in LINK.findall(_prose(page)):
        path, _, anchor = target.partition("#")
        other = (DOCS / page).parent / path if path else DOCS / page
        assert other.resolve().is_file(), f"{page} links to {target}"
        if anchor:
            assert anchor in _anchors(other.resolve().relative_to(DOCS).as_posix()), f"{page} links to {target}"


def test_nothing_is_fetched_from_elsewhere() -> None:
    sources = [ROOT / "mkdocs.yml", *(path for path in DOCS.rglob("*") if path.suffix in (".md", ".css", ".py"))]
    for path in sources:
        assert not re.search(r"https?://|//cdn|@import|url\(", path.read_text(encoding="utf-8")), path


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r"[\w/-]+\.md", menu)) == PAGES


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(_text(page) for page in PAGES if page.startswith("reference/"))
    named = set(re.findall(r"^::: (\S+)$", reference, flags=re.MULTILINE))
    modules = {name for name in bayou.__all__ if isinstance(getattr(bayou, name), ModuleType)}
    wanted = {f"bayou.{name}" for name in bayou.__all__ if not name.startswith("_")} - {f"bayou.{m}" for m in modules}
    for module in ("engines", "priors", "families", "links", "datasets"):
        wanted |= {f"bayou.{module}.{name}" for name in getattr(bayou, module).__all__}
    there = [_resolved(name) for name in named]  # an object may stand there under another of its names
    assert not [name for name in sorted(wanted) if not any(_resolved(name) is one for one in there)]


def test_every_engine_has_a_page() -> None:
    from bayou import engines

    pages = {"ml": "likelihood", "reml": "likelihood", "laplace": "likelihood"}
    for name in engines.NAMES:
        assert f"engines/{pages.get(name, name)}.md" in PAGES
        assert f"`{name}`" in _text("engines/index.md")


def test_formulas_are_read() -> None:
    mathematics = pytest.importorskip("math_core") and _hook("mathematics")
    count = 0
    for page in PAGES:
        for match in FORMULA.finditer(_prose(page)):
            block = match["block"] is not None
            latex = match["block"] if block else match["inline"]
            html = rf'<div class="arithmatex">\[{latex}\]</div>' if block else rf'<span class="arithmatex">\({latex}\)</span>'
            assert "<math" in mathematics.rendered(html), f"{page}: {latex}"
            count += 1
    assert count > 100
    with pytest.raises(mathematics.FormulaError):
        mathematics.rendered(r'<span class="arithmatex">\(\nosuchcommand\)</span>')


# ---- the blocks themselves -----------------------------------------------------------------

SAMPLE = """Text {= 1 + 1 =}.

```python exec
x = 3
print(x)
```

```python exec hide
y = x + 1
```

Now {= y =}.

```python exec alt="A line"
from matplotlib import pyplot
figure, axes = pyplot.subplots()
figure
```

```python exec off=later
z = never_run
```

```python exec raises=DataError
import bayou
bayou.datasets.load("none")
```
"""


def test_blocks_share_a_namespace_and_show_what_they_do() -> None:
    shown = blocks.run(SAMPLE, "sample.md")
    page = blocks.written(SAMPLE, shown, "sample-")
    assert page.startswith("Text 2.")
    assert "\n3\n```" in page
    assert "y = x + 1" not in page and "Now 4." in page
    assert "![A line](sample-0.png)" in page
    assert "z = never_run" in page
    assert "DataError: there is no data set" in page or "DataError: " in page
    assert shown[4].pictures[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('old', DeprecationWarning)", "DeprecationWarning"),
    ],
)
def test_a_block_that_fails_stops_the_build(code: str, said: str) -> None:
    with pytest.raises(blocks.BlockError, match=said) as raised:
        blocks.run(f"# Title\n\n```python exec\n{code}\n```\n", "bad.md")
    assert "bad.md, the block at line 4" in str(raised.value)


def test_an_error_that_does_not_come_stops_the_build() -> None:
    with pytest.raises(blocks.BlockError, match="was expected"):
        blocks.run("```python exec raises=DataError\nx = 1\n```\n", "bad.md")


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "engines" / "inla.html").read_text(encoding="utf-8")
    assert "<math" in page and "arithmatex" not in page

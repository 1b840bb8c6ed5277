"""What a model and a result look like on a screen and in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bayou.fitting.fitting import Fit
    from bayou.model import Model

__all__ = ["describe_fit", "describe_model", "fit_html", "model_html"]

HEADINGS = ("mean", "sd", "lower", "median", "upper", "R-hat", "ESS bulk", "ESS tail")
COLUMNS = ("mean", "sd", "lower", "median", "upper", "r_hat", "ess_bulk", "ess_tail")
LABEL_WIDTH = 9
WIDTH = 100


# ---- facts ---------------------------------------------------------------------------------


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def model_facts(model: Model) -> list[tuple[str, list[str]]]:
    """Return what is known before any sampling, as (label, lines)."""
    design = model.design
    family = model.family.name.replace("_", " ")
    data = [_counted(design.n, "row")]
    data += [f"{g.name}: {_counted(len(g.levels), 'level')}" for g in design.groupings]
    if design.sigma_by is not None:
        data.append(f"one residual sd per {design.sigma_by}: {_counted(len(design.sigma_levels), 'level')}")
    facts = [
        ("Formula", [model.text]),
        ("Family", [f"{family}, {model.family.link.name} link"]),
        ("Data", ["; ".join(data)]),
    ]
    if model.bound.lines:
        facts.append(("Priors", list(model.bound.lines)))
    notes = [*design.notes, *model.bound.notes]
    return facts + ([("Notes", notes)] if notes else [])


def fit_facts(fit: Fit) -> list[tuple[str, list[str]]]:
    """Return what is known of a fit beside its estimates, as (label, lines)."""
    result = fit.result
    facts = [fact for fact in model_facts(fit.model) if fact[0] != "Notes"]
    method = result.info.get("method")
    engine = result.engine + (f", {method}" if method else "")
    draws = f"{_counted(result.chains, 'chain')} of {_counted(result.size, 'draw')}"
    warmup = result.info.get("warmup")
    if warmup:
        draws += f" after {warmup:,} of warm-up"
    return [*facts, ("Engine", [engine, f"{draws}, {fit.seconds:.2f} s"])]


def blocks_of(fit: Fit) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Return the two blocks of estimates: (title, rows of (name, cells))."""
    frame = fit.summary()
    numbers, sds = frame[list(COLUMNS)].to_numpy(dtype=float), frame["sd"].to_numpy(dtype=float)
    rows = [
        (str(name), [_cell(column, value, sd) for column, value in zip(COLUMNS, values, strict=True)])
        for name, values, sd in zip(frame.index, numbers.tolist(), sds.tolist(), strict=True)
    ]
    groups = [row for row in rows if row[0].startswith(("sd_", "cor_"))]
    population = [row for row in rows if row not in groups]
    blocks = [("Group level", groups), ("Population level", population)]
    return [block for block in blocks if block[1]]


def _cell(column: str, value: float, sd: float) -> str:
    if not np.isfinite(value):
        return "–"
    if column == "r_hat":
        return f"{value:.3f}"
    if column.startswith("ess"):
        return f"{value:,.0f}"
    if sd <= 0.0 or not np.isfinite(sd):
        return f"{value:.4g}"
    # two digits of the sd decide how many of the others mean anything
    decimals = int(1 - np.floor(np.log10(sd)))
    if decimals > 7 or max(abs(value), sd) >= 1e7:
        return f"{value:.3e}"
    text = f"{value:.{max(decimals, 0)}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


# ---- plain text ----------------------------------------------------------------------------


def _facts_text(facts: list[tuple[str, list[str]]]) -> list[str]:
    labelled = [(label if k == 0 else "", line) for label, lines in facts for k, line in enumerate(lines)]
    return [f"{label:<{LABEL_WIDTH}} {line}" for label, line in labelled]


def describe_model(model: Model) -> str:
    """Return formula, family, data and every prior with its numbers, as text."""
    return "\n".join(["bayou model", *_facts_text(model_facts(model))])


def describe_fit(fit: Fit) -> str:
    """Return a fit as text: facts, group level, population level and the verdict in words.

    The verdict stands first when something speaks against using the result.
    """
    verdict = fit.verdict
    lines = ["bayou fit", *_facts_text(fit_facts(fit))]
    blocks = blocks_of(fit)
    width = max((len(name) for _, rows in blocks for name, _ in rows), default=0)
    cells = [list(HEADINGS), *(row for _, rows in blocks for _, row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(HEADINGS))]
    for title, rows in blocks:
        cells = [list(HEADINGS), *(row for _, row in rows)]
        names = ["", *(name for name, _ in rows)]
        lines += ["", title]
        lines += [
            f"  {name:<{width}}" + "".join(f"  {c:>{w}}" for c, w in zip(row, widths, strict=True))
            for name, row in zip(names, cells, strict=True)
        ]
    lines.append("")
    if verdict.ok:
        lines.append(verdict.line)
    else:
        lines = [verdict.line, "", *lines, verdict.figures]
    return "\n".join([*lines, *(f"  - {note}" for note in verdict.notes)])


# ---- HTML ----------------------------------------------------------------------------------


def _facts_html(facts: list[tuple[str, list[str]]]) -> str:
    rows = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(label)}</th>"
        f"<td style='text-align:left'>{'<br>'.join(map(escape, lines))}</td></tr>"
        for label, lines in facts
    )
    return f"<table>{rows}</table>"


def model_html(model: Model) -> str:
    """Return the same facts as `describe_model`, for a notebook."""
    return f"<div><strong>bayou model</strong>{_facts_html(model_facts(model))}</div>"


def fit_html(fit: Fit) -> str:
    """Return the same facts as `describe_fit`, for a notebook."""
    verdict = fit.verdict
    said = f"<p><strong>{escape(verdict.line)}</strong></p>"
    notes = "".join(f"<li>{escape(note)}</li>" for note in verdict.notes)
    tables = "".join(_block_html(title, rows) for title, rows in blocks_of(fit))
    body = _facts_html(fit_facts(fit)) + tables
    body = body + said if verdict.ok else said + body
    return f"<div><strong>bayou fit</strong>{body}{f'<ul>{notes}</ul>' if notes else ''}</div>"


def _block_html(title: str, rows: list[tuple[str, list[str]]]) -> str:
    def line(tag: str, cells: list[Any]) -> str:
        inside = "".join(f"<{tag} style='text-align:right'>{escape(c)}</{tag}>" for c in cells)
        return f"<tr>{inside}</tr>"

    table = line("th", ["", *HEADINGS]) + "".join(line("td", [name, *row]) for name, row in rows)
    return f"<h4>{escape(title)}</h4><table>{table}</table>"

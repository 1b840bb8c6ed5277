"""What a model and a result look like on a screen and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.fitting.structures import open_parts, structure_lines
from bayou.posterior.names import hyperparameter_names
from bayou.streaming import Stream

if TYPE_CHECKING:
    from bayou.fitting.fitting import Fit
    from bayou.model import Model
    from bayou.posterior import Approximation, Estimates

__all__ = ["describe_fit", "describe_model", "fit_html", "model_html"]

COLUMNS = {"mean": "mean", "sd": "sd", "lower": "lower", "median": "median", "upper": "upper"}
COLUMNS |= {"r_hat": "R-hat", "ess_bulk": "ESS bulk", "ess_tail": "ESS tail"}
ESTIMATED = {"mean": "estimate", "sd": "se", "lower": "lower", "upper": "upper"}
LABEL_WIDTH = 9


@dataclass(frozen=True)
class Block:
    """A table of estimates: its title, what stands above the columns, and rows of (name, cells)."""

    title: str
    headings: list[str]
    rows: list[tuple[str, list[str]]]


# ---- facts ---------------------------------------------------------------------------------


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def model_facts(model: Model, priors: bool = True) -> list[tuple[str, list[str]]]:
    """Return what is known before any fit, as (label, lines), with the priors or without."""
    design = model.design
    family = model.family.name.replace("_", " ")
    data = [_counted(design.given, "row")]
    data += [f"{g.name}: {_counted(len(g.levels), 'level')}" for g in design.groupings]
    if design.sigma_by is not None:
        data.append(f"one residual sd per {design.sigma_by}: {_counted(len(design.sigma_levels), 'level')}")
    facts = [
        ("Formula", [model.text]),
        ("Family", [f"{family}, {model.family.link.name} link"]),
        ("Data", ["; ".join(data)]),
    ]
    behind = None if design.reduced is None else design.reduced.source
    if isinstance(behind, Stream):
        facts += [("Read", behind.lines[:1]), ("Kept", behind.lines[1:])]
    if design.structured:
        facts.append(("Effects", structure_lines(model)))
    if model.bound.lines and priors:
        facts.append(("Priors", list(model.bound.lines)))
    notes = [*design.notes, *(model.bound.notes if priors else ())]
    return facts + ([("Notes", notes)] if notes else [])


def fit_facts(fit: Fit) -> list[tuple[str, list[str]]]:
    """Return what is known of a fit beside its estimates, as (label, lines)."""
    facts = _facts_of(fit)
    auto = fit.result.info.get("auto")
    if auto:
        at = [label for label, _ in facts].index("Engine") + 1
        facts.insert(at, ("Chosen", _choice_lines(auto)))
    return facts


def _choice_lines(auto: Mapping[str, Any]) -> list[str]:
    """Say why an engine was chosen, and where several were tried how long each took."""
    lines = [f"by auto ({auto['where']}): {auto['because']}"]
    tried = auto["attempts"]
    if len(tried) > 1:
        words = [f"{one['engine']} {one['seconds']:.2g} s, {'taken' if one['passed'] else 'not ok'}" for one in tried]
        lines.append(f"tried in turn: {'; '.join(words)}")
    return lines


def _facts_of(fit: Fit) -> list[tuple[str, list[str]]]:
    result = fit.result
    facts = [fact for fact in model_facts(fit.model) if fact[0] != "Notes"]
    if result.estimates is not None:
        return _estimates_facts(fit, facts, result.estimates)
    found = result.approximation
    evidence = [] if found is None or np.isnan(found.log_marginal) else [_evidence(found, fit.model)]
    if found is not None and not result.chained:
        drawn = f"{result.chains * result.size:,} joint draws, {_seconds(fit)}"
        return [*facts, ("Engine", [result.engine, f"{found.method}; {drawn}"]), *evidence]
    method = result.info.get("method")
    engine = result.engine + (f", {method}" if method else "")
    draws = f"{_counted(result.chains, 'chain')} of {_counted(result.size, 'draw')}"
    warmup = result.info.get("warmup")
    if warmup:
        draws += f" after {warmup:,} of warm-up"
    return [*facts, ("Engine", [engine, f"{draws}, {fit.seconds:.2f} s"]), *evidence]


def _estimates_facts(fit: Fit, facts: list[tuple[str, list[str]]], found: Estimates) -> list[tuple[str, list[str]]]:
    if not found.priors_used:
        facts = [*(fact for fact in facts if fact[0] != "Priors"), ("Priors", ["none were used"])]
    took = _seconds(fit)
    counted = _counted(found.parameters, "parameter")
    if np.isnan(found.log_likelihood):
        fitted = [f"{found.method}: it has no likelihood of the data, so no AIC or BIC; {counted}"]
    else:
        criterion = "log likelihood without the priors" if found.priors_used else found.criterion
        said = f"{found.method}, {found.criterion} maximised" if found.priors_used else found.method
        fitted = [
            f"{said}: {criterion} {found.log_likelihood:.2f} with {counted}; AIC {found.aic:.2f}, BIC {found.bic:.2f}"
        ]
    return [*facts, ("Engine", [f"{fit.result.engine}, {took}"]), ("Method", fitted)]


def _seconds(fit: Fit) -> str:
    seconds = fit.seconds
    return f"{seconds:.2f} s" if not seconds < 0.1 else f"{1000 * seconds:.2g} ms"


def _evidence(found: Approximation, model: Model) -> tuple[str, list[str]]:
    error = found.log_marginal_error
    margin = f" ± {error:.2g}" if np.isfinite(error) and error > 0.0 else ""
    lines = [f"log marginal likelihood {found.log_marginal:.2f}{margin}"]
    if parts := open_parts(model):
        lines.append(f"up to a constant: the prior of {' and of '.join(parts)} leaves a part flat")
    return "Evidence", lines


def blocks_of(fit: Fit) -> list[Block]:
    """Return the blocks of estimates: group level, structured effects, population level."""
    frame, found = fit.summary(), fit.result.estimates
    columns = COLUMNS if found is None else ESTIMATED
    if found is None and not fit.result.chained:
        columns = {key: words for key, words in COLUMNS.items() if not key.startswith(("r_hat", "ess"))}
    numbers, sds = frame[list(columns)].to_numpy(dtype=float), frame["sd"].to_numpy(dtype=float)
    rows = [
        (str(name), [_cell(column, value, sd) for column, value in zip(columns, values, strict=True)])
        for name, values, sd in zip(frame.index, numbers.tolist(), sds.tolist(), strict=True)
    ]
    own = {key for name in fit.result.structured for key in hyperparameter_names(name, fit.result.draws)}
    structured = [row for row in rows if row[0] in own]
    groups = [row for row in rows if row[0].startswith(("sd_", "cor_")) and row not in structured]
    population = [row for row in rows if row not in groups and row not in structured]
    headings = list(columns.values())
    tested = headings
    if found is not None:
        names, tests = _tests(found)
        tested = headings + names
        nothing = [[""] * len(names)] * (len(population) - len(tests))
        population = [(name, row + more) for (name, row), more in zip(population, tests + nothing, strict=True)]
    blocks = [
        Block("Group level", headings, groups),
        Block("Structured effects", headings, structured),
        Block("Population level", tested, population),
    ]
    return [block for block in blocks if block.rows]


def _tests(found: Estimates) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the tests of the fixed effects: t with degrees of freedom where there are some."""
    statistic, df, p = (values.tolist() for values in found.tests())
    exact = bool(np.isfinite(df).any())
    rows = [
        [_plain(s, 2), *([_plain(d, 1)] if exact else []), "<0.0001" if q < 1e-4 else _plain(q, 4)]
        for s, d, q in zip(statistic, df, p, strict=True)
    ]
    return ["t", "df", "p"] if exact else ["z", "p"], rows


def _plain(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}" if np.isfinite(value) else "–"


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


def describe_model(model: Model, priors: bool = True) -> str:
    """Return formula, family, data and (where they are used) every prior with its numbers, as text."""
    return "\n".join(["bayou model", *_facts_text(model_facts(model, priors))])


def describe_fit(fit: Fit) -> str:
    """Return a fit as text: facts, group level, population level and the verdict in words.

    The verdict stands first when something speaks against using the result.
    """
    verdict = fit.verdict
    lines = ["bayou fit", *_facts_text(fit_facts(fit))]
    blocks = blocks_of(fit)
    width = max((len(name) for block in blocks for name, _ in block.rows), default=0)
    cells = [row for block in blocks for row in (block.headings, *(row for _, row in block.rows))]
    columns = max(map(len, cells), default=0)
    widths = [max(len(row[k]) for row in cells if k < len(row)) for k in range(columns)]
    for block in blocks:
        lines += ["", block.title]
        lines += [
            f"  {name:<{width}}" + "".join(f"  {c:>{w}}" for c, w in zip(row, widths, strict=False)).rstrip()
            for name, row in [("", block.headings), *block.rows]
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
    tables = "".join(_block_html(block) for block in blocks_of(fit))
    body = _facts_html(fit_facts(fit)) + tables
    body = body + said if verdict.ok else said + body
    return f"<div><strong>bayou fit</strong>{body}{f'<ul>{notes}</ul>' if notes else ''}</div>"


def _block_html(block: Block) -> str:
    def line(tag: str, cells: list[Any]) -> str:
        inside = "".join(f"<{tag} style='text-align:right'>{escape(c)}</{tag}>" for c in cells)
        return f"<tr>{inside}</tr>"

    table = line("th", ["", *block.headings]) + "".join(line("td", [name, *row]) for name, row in block.rows)
    return f"<h4>{escape(block.title)}</h4><table>{table}</table>"

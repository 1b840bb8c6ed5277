"""The model without some of its rows, fitted again as it was fitted."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from bayou import engines
from bayou._types import Array, Integers
from bayou.errors import Unsupported
from bayou.model import Model
from bayou.posterior.convergence import r_hat
from bayou.streaming.merged import less

if TYPE_CHECKING:
    from bayou.design import Design, Distinct
    from bayou.design.structured import StructuredTerm
    from bayou.engines.base import Engine
    from bayou.posterior import Posterior

__all__ = ["engine_of", "refitted", "without"]

LOOSE = 1.05  # R-hat from which a fit is told of


def engine_of(posterior: Posterior) -> Engine:
    """Return the engine of a result with its settings, from what it says of itself: `Engine.describe`.

    Raises
    ------
    Unsupported
        If it cannot be told.
    """
    problem = Unsupported(
        f"The engine {posterior.engine!r} of this fit cannot be made again from its name and settings. Fit the model "
        "without these rows yourself, or ask with exact=False."
    )
    try:
        call = ast.parse(posterior.engine.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return engines.get(call.id)
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
        settings = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        names = {name: key for key, name in engines.NAMES.items()}
        made = engines.get(names.get(call.func.id, call.func.id), **settings)
    except (SyntaxError, ValueError, AssertionError, Unsupported):
        raise problem from None
    known = {f.name for f in fields(made)}
    quiet = {"progress": False, "keep_effects": True}
    return replace(made, **{name: value for name, value in quiet.items() if name in known})


def without(model: Model, rows: Integers, one: bool = False) -> Model:
    """Return the model without some rows: same columns, levels, nodes and frozen priors.

    A level whose rows are all left out stays, and its coefficients have their prior. Where identical rows were merged
    the rows are those of the design, or with ``one`` the different rows as given, one of each.
    """
    design = model.design
    if design.reduced is not None and design.reduced.distinct is not None:
        return _made(model, _less(design, design.reduced.distinct, rows, one))
    if design.reduced is not None and design.reduced.how == "summed":
        raise Unsupported(
            f"The {design.given:,} rows were summed to {design.n:,} as they were read, and this leaves out single ones "
            "of them. Fit a sample of the rows in memory."
        )
    keep = np.ones(design.n, dtype=bool)
    keep[rows] = False
    groupings = tuple(
        replace(g, codes=g.codes[keep], Z=np.ascontiguousarray(g.Z[keep])) for g in design.groupings
    )
    smaller = replace(
        design,
        y=design.y[keep],
        trials=design.trials[keep],
        weights=design.weights[keep],
        offset=design.offset[keep],
        standard_errors=None if design.standard_errors is None else design.standard_errors[keep],
        X=np.ascontiguousarray(design.X[keep]),
        groupings=groupings,
        sigma_codes=design.sigma_codes[keep],
        index=design.index[keep],
        structured=tuple(_kept(term, keep) for term in design.structured),
    )
    return _made(model, smaller)


def _made(model: Model, design: Design) -> Model:
    made = Model.__new__(Model)
    made.priors_given = True
    made._set(design, model.bound, model.effects)
    return made


def _less(design: Design, distinct: Distinct, rows: Integers, one: bool) -> Design:
    """Return a design of merged rows without some of them."""
    frequency = distinct.frequency.copy()
    if one:
        frequency[rows] -= 1.0
    else:
        frequency[np.isin(distinct.row, rows)] = 0.0
    return less(design, frequency)


def _kept(term: StructuredTerm, keep: Array) -> StructuredTerm:
    counts = np.diff(term.start)
    entries = np.repeat(keep, counts)
    start = np.concatenate([[0], np.cumsum(counts[keep])]).astype(term.start.dtype)
    return replace(
        term, start=start, replicate=term.replicate[entries], node=term.node[entries], value=term.value[entries]
    )


def refitted(
    posterior: Posterior, rows: Integers, branch: tuple[int, ...], one: bool = False
) -> tuple[Posterior, bool]:
    """Fit the model without some rows, by the same engine with the same settings.

    Parameters
    ----------
    posterior
        Of the fit to all rows.
    rows
        To leave out.
    branch
        Of the seed of that fit: the same one gives the same draws.
    one
        See `without`.

    Returns
    -------
    The draws, bound to the model with all rows, and whether the chains agree (R-hat up to 1.05).
    """
    seed = abs(int(posterior.info.get("seed") or 0))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=branch))
    result = engine_of(posterior).run(without(posterior.model, rows, one), rng)
    agree = True
    if result.chained and result.chains > 1:
        agree = bool(np.nanmax(r_hat(result.matrix()), initial=1.0) <= LOOSE)
    result.model = posterior.model  # whose rows are to be predicted
    return result, agree

"""Whether Markov chains can be trusted: the diagnostics of every row, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.posterior.convergence import agreement_bar, effective_size, r_hat, tail_shape
from bayou.verdict.boundaries import boundaries
from bayou.verdict.hamiltonian import cut_trees, divergences, low_energy
from bayou.verdict.sentences import Verdict, listed

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["Diagnostics", "examine", "judge_chains"]

R_HAT_BAR = 1.01  # Vehtari et al. 2021
ESS_BAR = 400.0
EFFECT_R_HAT_BAR = 1.05  # wider for group coefficients: the worst of hundreds is looked at
EFFECTS_LOOKED_AT = 200
STUCK = 0.02
FALSE_ALARMS = 0.01  # of all rows of a run together
HEAVY = 0.7  # Pareto shape from which a mean cannot be estimated from draws (Vehtari et al. 2024)


@dataclass(frozen=True)
class Diagnostics:
    """R-hat and effective sizes of the summary rows, each of shape (rows,)."""

    names: tuple[str, ...]
    r_hat: Array
    ess_bulk: Array
    ess_tail: Array
    constant: tuple[bool, ...]


def examine(posterior: Posterior) -> Diagnostics:
    """Compute the diagnostics of every summary row; there are none where draws are independent."""
    if not posterior.chained:
        nothing = np.full(len(posterior.rows), np.nan)
        return Diagnostics(tuple(posterior.rows), nothing, nothing, nothing, (False,) * len(nothing))
    matrix = posterior.matrix()
    return Diagnostics(
        tuple(posterior.rows),
        r_hat(matrix),
        effective_size(matrix, "bulk"),
        effective_size(matrix, "tail"),
        tuple(bool(np.ptp(x) == 0.0) for x in matrix),
    )


# ---- words ---------------------------------------------------------------------------------


def judge_chains(posterior: Posterior, numbers: Diagnostics) -> Verdict:
    """Turn the diagnostics of draws into a verdict."""
    failures = [
        *_not_finite(posterior),
        *_convergence(posterior, numbers),
        *heavy_tails(posterior, numbers),
        *_stuck(posterior),
        *divergences(posterior),
        *low_energy(posterior),
    ]
    notes = [
        *posterior.info.get("messages", ()),
        *(() if posterior.approximation is None else posterior.approximation.messages),
        *posterior.model.design.notes,
        *posterior.model.bound.notes,
        *_constants(numbers),
        *boundaries(posterior),
        *cut_trees(posterior),
    ]
    return Verdict(tuple(failures), tuple(dict.fromkeys(notes)), _figures(numbers))


def _figures(numbers: Diagnostics) -> str:
    if np.isnan(numbers.r_hat).all():
        return "Too few draws, or none that vary, to say anything of convergence."
    return (
        f"R-hat at most {np.nanmax(numbers.r_hat):.3f}; effective draws at least "
        f"{np.nanmin(_varying(numbers, numbers.ess_bulk)):,.0f} (bulk) and "
        f"{np.nanmin(_varying(numbers, numbers.ess_tail)):,.0f} (tail)."
    )


def _varying(numbers: Diagnostics, sizes: Array) -> Array:
    return np.where(numbers.constant, np.nan, sizes)


def _not_finite(posterior: Posterior) -> list[str]:
    rows = zip(posterior.rows, posterior.matrix(), strict=True)
    bad = [name for name, x in rows if not np.isfinite(x).all()]
    if not bad:
        return []
    return [f"Some draws of {listed(bad)} are not finite; give tighter priors or rescale the columns."]


def _convergence(posterior: Posterior, numbers: Diagnostics) -> list[str]:
    sentences = []
    if posterior.size < 4:
        return [f"Only {posterior.size} draws a chain: too few to judge; ask for draws=1000 or more."]
    apart = np.flatnonzero(numbers.r_hat > R_HAT_BAR)
    if apart.size:
        # at 400 effective draws an R-hat of 1.01 is as likely as not where nothing is wrong
        doubtful = posterior.matrix()[apart]
        apart = apart[~(numbers.r_hat[apart] <= agreement_bar(doubtful, FALSE_ALARMS / len(numbers.names)))]
    if apart.size:
        worst = apart[np.argsort(-numbers.r_hat[apart])]
        sentences.append(
            f"The chains do not agree yet: R-hat is {numbers.r_hat[worst[0]]:.3f} for "
            f"{listed([numbers.names[k] for k in worst])} (it should be at most {R_HAT_BAR}). "
            "Run longer (warmup=, draws=); if it stays, the data say little about these: use firmer priors."
        )
    sizes = np.fmin(numbers.ess_bulk, numbers.ess_tail)
    few = np.flatnonzero(_varying(numbers, sizes) < ESS_BAR)
    if few.size:
        worst = few[np.argsort(sizes[few])]
        factor = max(2, int(np.ceil(ESS_BAR / max(sizes[worst[0]], 1.0))))
        names = listed([numbers.names[k] for k in worst])
        sentences.append(
            f"Too few effective draws: {sizes[worst[0]]:.0f} for {names} (the bar is {ESS_BAR:.0f}). "
            f"Ask for draws={factor * posterior.size}."
        )
    return sentences + (_effects_apart(posterior) if not sentences else [])


def heavy_tails(posterior: Posterior, numbers: Diagnostics) -> list[str]:
    """Name the rows whose mean and sd are those of a few draws: ranks, and all made of them, do not see it."""
    if posterior.size < 4:
        return []
    shapes = tail_shape(posterior.matrix())
    heavy = np.flatnonzero(shapes > HEAVY)
    if not heavy.size:
        return []
    worst = heavy[np.argsort(-shapes[heavy])]
    return [
        f"The tails of {listed([numbers.names[k] for k in worst])} are so heavy (Pareto k = {shapes[worst[0]]:.2f}) "
        "that the mean and sd of the draws say nothing; use the median and the interval, or firmer priors."
    ]


def _effects_apart(posterior: Posterior) -> list[str]:
    """Look at an even choice of the group coefficients, so that 100,000 groups cost no more than 200."""
    sentences = []
    for grouping in posterior.model.design.groupings:
        draws = posterior.group("b", grouping.name)
        if draws is None or draws.shape[1] < 4 or not draws.size:
            continue
        chosen = np.unique(np.linspace(0, draws.shape[2] - 1, EFFECTS_LOOKED_AT).astype(int))
        subset = np.moveaxis(draws[:, :, chosen], (0, 1), (2, 3))
        values = r_hat(subset.reshape(-1, *draws.shape[:2])).reshape(subset.shape[:2])
        worst = np.nan_to_num(values).max(axis=1)
        bad = chosen[worst > EFFECT_R_HAT_BAR]
        if bad.size:
            labels = [str(grouping.levels[j]) for j in bad]
            sentences.append(
                f"The coefficients of {grouping.name} {listed(labels)} differ between chains "
                f"(R-hat up to {worst.max():.2f}). Run longer."
            )
    for name, term in posterior.structured.items():
        key = f"f_{name}"
        if key not in posterior.draws or posterior.shape(key)[1] < 4 or not len(term.nodes):
            continue
        every = posterior.structured_draws(name)
        flat = np.moveaxis(every, (0, 1), (2, 3)).reshape(-1, *every.shape[:2])
        places = np.unique(np.linspace(0, len(flat) - 1, EFFECTS_LOOKED_AT).astype(int))
        values = np.nan_to_num(r_hat(flat[places]))
        bad = places[values > EFFECT_R_HAT_BAR]
        if bad.size:
            labels = [str(term.nodes[k % len(term.nodes)]) for k in bad]
            sentences.append(
                f"{key} at {listed(labels)} differs between chains (R-hat up to {values.max():.2f}). Run longer."
            )
    return sentences


def _stuck(posterior: Posterior) -> list[str]:
    sentences = []
    for grouping in posterior.model.design.groupings:
        rates = posterior.group_statistics.get(f"acceptance_{posterior.names[grouping.name]}")
        if rates is None:
            continue
        bad = np.flatnonzero(np.nanmin(rates, axis=0) < STUCK)
        if bad.size:
            labels = [str(grouping.levels[j]) for j in bad]
            sentences.append(
                f"{bad.size} of {len(grouping.levels)} groups of {grouping.name} hardly move (acceptance "
                f"below {STUCK:.0%}): {listed(labels)}. Use the default proposal, a smaller scale= or a "
                "longer warmup."
            )
    return sentences


def _constants(numbers: Diagnostics) -> list[str]:
    fixed = [name for name, constant in zip(numbers.names, numbers.constant, strict=True) if constant]
    if not fixed:
        return []
    return [
        f"{listed(fixed)} has the same value in every draw, so its R-hat is undefined (NaN); "
        "this is no failure if it is held fixed on purpose."
    ]

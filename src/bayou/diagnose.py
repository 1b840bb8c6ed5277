"""How far a result can be trusted: the diagnostics of every row, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.posterior.convergence import agreement_bar, effective_size, r_hat, tail_shape

if TYPE_CHECKING:
    from bayou.posterior import Estimates, Posterior

__all__ = ["Diagnostics", "Verdict", "examine", "judge"]

R_HAT_BAR = 1.01  # Vehtari et al. 2021
ESS_BAR = 400.0
EFFECT_R_HAT_BAR = 1.05  # wider for group coefficients: the worst of hundreds is looked at
EFFECTS_LOOKED_AT = 200
STUCK = 0.02
NEAR_ZERO = 0.05
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
    """Compute the diagnostics of every summary row; there are none of estimates, whose draws are independent."""
    if posterior.estimates is not None:
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


@dataclass(frozen=True)
class Verdict:
    """Whether the result can be used, in sentences.

    Attributes
    ----------
    failures
        What is wrong and what to do; the verdict is ok when there are none.
    notes
        What is worth knowing and does not make the result wrong.
    figures
        One sentence with the numbers behind the verdict.
    """

    failures: tuple[str, ...]
    notes: tuple[str, ...]
    figures: str

    @property
    def ok(self) -> bool:
        """True when nothing speaks against using the result."""
        return not self.failures

    @property
    def reasons(self) -> tuple[str, ...]:
        """All sentences: the failures first, then the notes."""
        return self.failures + self.notes

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if self.ok:
            return f"Verdict: ok. {self.figures}"
        return "Verdict: NOT OK. " + " ".join(self.failures)

    def __str__(self) -> str:
        return "\n".join((self.line, *(f"  - {note}" for note in self.notes)))

    def __bool__(self) -> bool:
        return self.ok


def judge(posterior: Posterior, numbers: Diagnostics) -> Verdict:
    """Turn the diagnostics of a result into a verdict."""
    if posterior.estimates is not None:
        return _judge_estimates(posterior, posterior.estimates)
    failures = [
        *_not_finite(posterior),
        *_convergence(posterior, numbers),
        *_heavy_tails(posterior, numbers),
        *_stuck(posterior),
        *_divergences(posterior),
    ]
    notes = [
        *posterior.info.get("messages", ()),
        *posterior.model.design.notes,
        *posterior.model.bound.notes,
        *_constants(numbers),
        *_boundaries(posterior),
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


def _listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _not_finite(posterior: Posterior) -> list[str]:
    rows = zip(posterior.rows, posterior.matrix(), strict=True)
    bad = [name for name, x in rows if not np.isfinite(x).all()]
    if not bad:
        return []
    return [f"Some draws of {_listed(bad)} are not finite; give tighter priors or rescale the columns."]


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
            f"{_listed([numbers.names[k] for k in worst])} (it should be at most {R_HAT_BAR}). "
            "Run longer (warmup=, draws=); if it stays, the data say little about these: use firmer priors."
        )
    sizes = np.fmin(numbers.ess_bulk, numbers.ess_tail)
    few = np.flatnonzero(_varying(numbers, sizes) < ESS_BAR)
    if few.size:
        worst = few[np.argsort(sizes[few])]
        factor = max(2, int(np.ceil(ESS_BAR / max(sizes[worst[0]], 1.0))))
        names = _listed([numbers.names[k] for k in worst])
        sentences.append(
            f"Too few effective draws: {sizes[worst[0]]:.0f} for {names} (the bar is {ESS_BAR:.0f}). "
            f"Ask for draws={factor * posterior.size}."
        )
    return sentences + (_effects_apart(posterior) if not sentences else [])


def _heavy_tails(posterior: Posterior, numbers: Diagnostics) -> list[str]:
    """Name the rows whose mean and sd are those of a few draws: ranks, and all made of them, do not see it."""
    if posterior.size < 4:
        return []
    shapes = tail_shape(posterior.matrix())
    heavy = np.flatnonzero(shapes > HEAVY)
    if not heavy.size:
        return []
    worst = heavy[np.argsort(-shapes[heavy])]
    return [
        f"The tails of {_listed([numbers.names[k] for k in worst])} are so heavy (Pareto k = {shapes[worst[0]]:.2f}) "
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
                f"The coefficients of {grouping.name} {_listed(labels)} differ between chains "
                f"(R-hat up to {worst.max():.2f}). Run longer."
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
                f"below {STUCK:.0%}): {_listed(labels)}. Use the default proposal, a smaller scale= or a "
                "longer warmup."
            )
    return sentences


def _divergences(posterior: Posterior) -> list[str]:
    count = int(np.sum(posterior.statistics.get("diverging", 0)))
    if not count:
        return []
    scales = [name for name in posterior.rows if name.startswith("sd_")]
    return [
        f"{count} draws diverged; look at {_listed(scales) or 'the scales'}, and raise target_accept "
        "or use firmer priors for the group sds."
    ]


def _constants(numbers: Diagnostics) -> list[str]:
    fixed = [name for name, constant in zip(numbers.names, numbers.constant, strict=True) if constant]
    if not fixed:
        return []
    return [
        f"{_listed(fixed)} has the same value in every draw, so its R-hat is undefined (NaN); "
        "this is no failure if it is held fixed on purpose."
    ]


def _boundaries(posterior: Posterior) -> list[str]:
    """Say where a group sd may be zero or a correlation one in size."""
    notes = []
    design = posterior.model.design
    unit = 1.0
    if posterior.dispersion == "sigma":
        unit = float(posterior.draws["sigma"].mean())
    for grouping in design.groupings:
        name = posterior.names[grouping.name]
        sds = posterior.group("sd", grouping.name)
        if sds is None:
            continue
        sizes = np.sqrt(np.mean(np.square(grouping.Z), axis=0))
        for k, column in enumerate(grouping.coefficients):
            bar = NEAR_ZERO * unit / sizes[k] if sizes[k] > 0.0 else 0.0
            chance = float((sds[..., k] < bar).mean())
            if chance > 0.05:
                notes.append(
                    f"sd_{name}[{column}] may be zero: P(sd < {bar:.2g}) = {chance:.2f}. The groups "
                    "may hardly differ here."
                )
    for row, place in posterior.rows.items():
        if row.startswith("cor_"):
            chance = float((np.abs(posterior.values(place)) > 0.99).mean())
            if chance > 0.05:
                notes.append(
                    f"{row} may be ±1: P(|cor| > 0.99) = {chance:.2f}. Consider uncorrelated coefficients, (… || g)."
                )
    return notes


# ---- estimates -----------------------------------------------------------------------------


def _judge_estimates(posterior: Posterior, found: Estimates) -> Verdict:
    """Say whether the optimiser ended at a maximum, inside the space of the parameters."""
    failures = [*found.failures, *_not_converged(found), *_no_numbers(found), *_singular(found)]
    priors = posterior.model.bound.notes if found.priors_used else ()
    notes = [
        *posterior.info.get("messages", ()),
        *posterior.model.design.notes,
        *priors,
        *found.notes,
        *_maximised_with_priors(found),
        *_without_error(found),
    ]
    steps = f"{found.iterations} iteration" + ("" if found.iterations == 1 else "s")
    ended = f"{'Converged in' if found.converged else 'Stopped after'} {steps}"
    gradient = f"{found.gradient:.0e}".replace("e-0", "e-").replace("e+0", "e+")
    figures = f"{ended}; largest scaled gradient {gradient}."
    return Verdict(tuple(dict.fromkeys(failures)), tuple(dict.fromkeys(notes)), figures)


def _not_converged(found: Estimates) -> list[str]:
    if found.converged or any("converge" in sentence for sentence in found.failures):
        return []
    return [
        f"{found.method} did not converge: bring columns to similar scales, leave out terms that the data hardly "
        "inform, give priors, or fit with a sampler (engine='auto')."
    ]


def _no_numbers(found: Estimates) -> list[str]:
    rows = zip(found.rows, found.estimate, found.se, strict=True)
    bad = [
        name
        for name, x, se in rows
        if not np.isfinite(x) or se == 0.0 or np.isinf(se) or (np.isnan(se) and name.startswith("beta["))
    ]
    sentences = []
    if bad:
        sentences.append(
            f"{_listed(bad)} has no finite estimate with a standard error: the data do not determine it. "
            "Drop a term, or give it a prior."
        )
    if np.isinf(found.log_likelihood):
        sentences.append("The log likelihood is not finite; rescale the columns, or give priors.")
    return sentences


def _singular(found: Estimates) -> list[str]:
    if not found.singular:
        return []
    return [*found.singular, "The fit is singular: leave out what has no variance, or give it a prior."]


def _maximised_with_priors(found: Estimates) -> list[str]:
    if not found.priors_used or np.isnan(found.log_likelihood):
        return []
    return [
        "The estimates maximise the likelihood times the priors; the log likelihood, AIC and BIC are those of the "
        "likelihood alone, at these estimates."
    ]


def _without_error(found: Estimates) -> list[str]:
    """Name the rows without standard error that no sentence about singularity explains."""
    said = " ".join((*found.singular, *found.failures, *found.notes))
    rows = zip(found.rows, found.se, strict=True)
    bare = [name for name, se in rows if np.isnan(se) and not name.startswith("beta[") and name not in said]
    if not bare:
        return []
    return [f"{_listed(bare)} has no standard error and no interval: the criterion is not curved there."]

"""Whether an optimiser ended at a maximum, inside the space of the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou.verdict.sentences import Verdict, listed

if TYPE_CHECKING:
    from bayou.posterior import Estimates, Posterior

__all__ = ["judge_estimates"]


def judge_estimates(posterior: Posterior, found: Estimates) -> Verdict:
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
            f"{listed(bad)} has no finite estimate with a standard error: the data do not determine it. "
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
    return [f"{listed(bare)} has no standard error and no interval: the criterion is not curved there."]

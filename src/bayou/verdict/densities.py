"""Whether an approximation can be trusted: what its check of itself found, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou.verdict.boundaries import boundaries
from bayou.verdict.sentences import Verdict, listed

if TYPE_CHECKING:
    from bayou.posterior import Approximation, Posterior

__all__ = ["judge_approximation"]

HEAVY = 0.7  # k-hat from which importance weights say nothing
FEW = 400.0  # effective draws of the weights
FAR = 0.05  # shift, in posterior sds, that is worth a note


def judge_approximation(posterior: Posterior, found: Approximation) -> Verdict:
    """Return what the self-check says, with what to do where it says no.

    The check weighs draws of the hyperparameters by an unbiased estimate of p(y | theta): ``shift`` is how far the
    weighted means and sds lie from the approximate ones, ``effective_size`` and ``k_hat`` are those of the weights.
    """
    check = found.check
    failures = [*_not_finite(posterior, found), *(_failed(found) if not check.get("ok", True) else [])]
    notes = [
        *posterior.info.get("messages", ()),
        *found.messages,
        *posterior.model.design.notes,
        *posterior.model.bound.notes,
        *_corrected(found),
        *boundaries(posterior),
    ]
    return Verdict(tuple(failures), tuple(dict.fromkeys(notes)), _figures(found))


def _number(found: Approximation, name: str) -> float:
    value = found.check.get(name)
    return np.nan if value is None else float(value)


def _figures(found: Approximation) -> str:
    if not found.check:
        return "The approximation was not checked against the exact posterior (correct=True checks it)."
    shift, size, k = (_number(found, name) for name in ("shift", "effective_size", "k_hat"))
    said = []
    if np.isfinite(shift):
        said.append(f"the exact posterior is at most {shift:.2g} posterior sd from the approximation")
    if np.isfinite(size):
        said.append(f"{size:,.0f} effective draws of the importance weights")
    if np.isfinite(k):
        said.append(f"k-hat {k:.2f}")
    return f"Self-check: {'; '.join(said)}." if said else "The self-check found nothing against it."


def _failed(found: Approximation) -> list[str]:
    size, k = _number(found, "effective_size"), _number(found, "k_hat")
    why = []
    if k > HEAVY:
        why.append(f"k-hat is {k:.2f} (it should be at most {HEAVY})")
    if size < FEW:
        why.append(f"only {size:,.0f} effective draws are left of the importance weights (the bar is {FEW:.0f})")
    shift, error = _number(found, "shift"), _number(found, "error")
    if error > FAR:
        why.append(f"the weighted means are off by {error:.2g} posterior sd or more")
    if not why and np.isfinite(shift):
        why.append(f"the exact posterior lies {shift:.2g} posterior sd away")
    reason = f": {' and '.join(why)}" if why else ""
    return [
        f"The approximation fails its own check{reason}. Fit with a sampler (engine='auto'); data with few rows per "
        "group and a binary response are the usual cause."
    ]


def _corrected(found: Approximation) -> list[str]:
    shift = _number(found, "shift")
    if not found.check.get("ok", True) or not shift > FAR or any("corrected" in said for said in found.messages):
        return []
    if found.check.get("corrected", False):
        return [f"The approximation alone is off by up to {shift:.2g} posterior sd; the answer is corrected for that."]
    return [f"The approximation is off by up to {shift:.2g} posterior sd, and the answer is not corrected for that."]


def _not_finite(posterior: Posterior, found: Approximation) -> list[str]:
    bad = [
        name
        for name in posterior.rows
        if name in found.marginals and not np.isfinite([found.marginals[name].mean, found.marginals[name].sd]).all()
    ]
    if not bad:
        return []
    return [f"{listed(bad)} has no finite mean and sd; give tighter priors or rescale the columns."]

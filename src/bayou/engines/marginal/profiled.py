"""The result of maximum likelihood or REML on sums: one residual sd, no priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou.conditional.joint import Conditional
from bayou.engines.marginal.climb import Maximum, climb
from bayou.engines.marginal.curvature import ProfileUncertainty
from bayou.engines.marginal.identified import require_rank, require_variances, stopped
from bayou.engines.marginal.profile import Profile
from bayou.engines.marginal.result import Outcome, posterior
from bayou.engines.marginal.singular import describe, probe, snap
from bayou.errors import DataError

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior


def profiled(model: Model, engine: Engine, restricted: bool, rng: np.random.Generator) -> Posterior:
    """Maximise the (restricted) likelihood of a Gaussian model and return the result."""
    require_rank(model)
    require_variances(model, restricted)
    of = Profile(model, restricted)
    sums, work, numbers = of.sums, of.work, of.numbers
    P = len(sums.border.linear)
    n = sums.rows - P if restricted else sums.rows
    found = _maximum(of)
    if not np.isfinite(found.value):
        raise DataError(
            "The likelihood has no maximum: the model fits every row exactly, so that the residual sd is zero. Use "
            "fewer terms, or rows that repeat."
        )
    sigma = float(np.sqrt(work.facts[0] / n))
    T = sigma * numbers.factors(found.psi)
    value = of.sufficient.log_weights - found.value
    joint = Conditional(
        model, of.order, sums.arrow, sums.border, work.factor, numbers.factors(found.psi), sigma,
        of.sufficient.shift, value, parts=of.packed_parts,
    )  # fmt: skip
    failures: tuple[str, ...] = ()
    if not found.converged:
        failures = (stopped(model, found.promise, sigma),)
    return posterior(
        model,
        engine,
        Outcome(
            method="REML" if restricted else "ML",
            criterion="restricted log likelihood" if restricted else "log likelihood",
            order=of.order,
            T=T,
            dispersion=np.array([sigma]),
            joint=joint,
            uncertainty=ProfileUncertainty(of, found, sigma, joint, 1.0),
            log_likelihood=value,
            parameters=P + numbers.size + 1,
            converged=found.converged,
            gradient=found.promise,
            iterations=found.iterations,
            singular=tuple(describe(model, of.order, numbers, numbers.factors(found.psi))),
            failures=failures,
        ),
        rng,
    )


def _maximum(of: Profile) -> Maximum:
    """Descend, by the loop that is compiled as a whole where the system is small, and look at the borders."""
    psi = of.start()
    state, status = of.minimise(psi)
    value, psi = float(state.facts[0]), state.x.copy()
    promise = 0.5 * float(state.facts[5])
    evaluate = of.value
    if np.isfinite(value) and len(psi):
        settled = snap(evaluate, of.numbers, psi, 0, value)
        if np.any((settled == 0.0) & (psi != 0.0)):
            # what is left moves a little once a direction is gone
            state, status = of.minimise(settled)
            value, promise = float(state.facts[0]), 0.5 * float(state.facts[5])
            settled = snap(evaluate, of.numbers, state.x.copy(), 0, value)
        psi, value = settled, evaluate(settled)
        better = probe(evaluate, of.numbers, psi, 0, value)
        if better is not None:
            return climb(of.evaluate, of.numbers, 0, better, state.H.copy())
        of.evaluate(psi)
    converged = status == 1 or (np.isfinite(value) and promise < 1e-7)
    return Maximum(psi, value, converged, int(state.facts[3]), promise, state.H)

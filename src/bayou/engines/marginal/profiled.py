"""The result of maximum likelihood or REML on sums: one residual sd, no priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.joint import Conditional
from bayou.engines.marginal.climb import Maximum, climb, hessian
from bayou.engines.marginal.identified import require_rank
from bayou.engines.marginal.natural import jacobian, natural_rows, natural_values, to_scale
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
    of = Profile(model, restricted)
    sums, work, numbers = of.sums, of.work, of.numbers
    P = len(sums.border.linear)
    n = sums.rows - P if restricted else sums.rows
    if n < 1:
        raise DataError(
            f"{model.design.n:,} rows for {P} fixed effects leave nothing to estimate a residual sd from. Use fewer "
            "terms, or more rows."
        )
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
        model, of.sufficient.order, sums.arrow, sums.border, work.factor, work.T, sigma, of.sufficient.shift, value
    )
    failures = ()
    if not found.converged:
        failures = (
            f"The search stopped where a step still promises {found.promise:.2g} of log likelihood: the estimates are "
            "not at its maximum. Bring columns to similar units, or give priors.",
        )
    return posterior(
        model,
        engine,
        Outcome(
            method="REML" if restricted else "ML",
            criterion="restricted log likelihood" if restricted else "log likelihood",
            order=of.sufficient.order,
            T=T,
            dispersion=np.array([sigma]),
            joint=joint,
            uncertainty=_Uncertainty(of, found, sigma, joint),
            log_likelihood=value,
            parameters=P + numbers.size + 1,
            converged=found.converged,
            gradient=found.promise,
            iterations=found.iterations,
            singular=tuple(describe(model, of.sufficient.order, numbers, T)),
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
        psi = snap(evaluate, of.numbers, psi, 0, value)
        value = evaluate(psi)
        better = probe(evaluate, of.numbers, psi, 0, value)
        if better is not None:
            return climb(of.evaluate, of.numbers, 0, better, state.H.copy())
        of.evaluate(psi)
    converged = status == 1 or (np.isfinite(value) and promise < 1e-7)
    return Maximum(psi, value, converged, int(state.facts[3]), promise, state.H)


class _Uncertainty:
    """Covariances of the estimates, computed at first use.

    With the relative factors psi and s = log sigma, the Hessian of minus the log likelihood has the profile's as its
    Schur complement, 2 n in s, and 2 sum(score x mode)/sigma² between them.
    """

    def __init__(self, of: Profile, found: Maximum, sigma: float, joint: Conditional) -> None:
        self.of, self.found, self.sigma = of, found, sigma
        self.working = joint.working_covariance
        self._kept: Array | None = None

    def __call__(self) -> tuple[Array, Array]:
        """Return the covariance (P, P) of the working fixed effects and that of the hyperparameters on their scale."""
        if self._kept is None:
            self._kept = self._compute()
        return self.working, self._kept

    def _compute(self) -> Array:
        of, psi = self.of, self.found.psi
        own = Profile(of.model, of.restricted)  # the result's factor stays at the maximum
        d = len(psi)
        n = own.sums.rows - (len(own.sums.border.linear) if own.restricted else 0)
        H = hessian(own.evaluate, psi, self.found.H)
        mixed = 2.0 * own.score_moments() / self.sigma**2
        whole = np.empty((d + 1, d + 1))
        try:
            inverse = np.linalg.inv(H)
        except np.linalg.LinAlgError:
            inverse = np.full_like(H, np.nan)
        whole[:d, :d] = inverse
        whole[d, :d] = whole[:d, d] = -inverse @ mixed / (2.0 * n)
        whole[d, d] = 1.0 / (2.0 * n) + mixed @ inverse @ mixed / (2.0 * n) ** 2
        rows = natural_rows(own.model, True)

        def natural(x: Array) -> Array:
            sigma = np.exp(x[-1:])
            T = sigma[0] * own.numbers.factors(x[:-1])
            return to_scale(natural_values(own.model, own.sufficient.order, T, sigma, rows), rows)

        J = jacobian(natural, np.append(psi, np.log(self.sigma)))
        return np.asarray(J @ whole @ J.T)

"""The maximum of any marginal likelihood over rows, as a result: what `laplace` and `quadrature` share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.engines.marginal.begin import begin
from bayou.engines.marginal.climb import Maximum, climb, hessian, inverse_of_free
from bayou.engines.marginal.identified import require_maximum, require_rank, require_variances, stopped
from bayou.engines.marginal.natural import jacobian, natural_rows, natural_values, to_scale
from bayou.engines.marginal.result import Outcome, posterior
from bayou.engines.marginal.singular import describe, free
from bayou.errors import DataError

ROUNDING = 1e-15  # share of the rows' log likelihood that is noise
LARGE = 1e6  # a phi this many times the largest mean

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior


def _border_of_phi(of: Laplace, found: Maximum, noise: float) -> tuple[Maximum, tuple[str, ...]]:
    """Hold a phi that ran off at the border of its range, and let the others settle there; says so."""
    most = np.log(LARGE * max(float(of.data.y.max()), 1.0))
    if -np.log(LARGE) <= found.psi[-1] <= most:
        return found, ()
    at = np.clip(found.psi[-1], -np.log(LARGE), most)

    def held(psi: Array) -> tuple[float, Array]:
        value, slopes = of.evaluate(np.append(psi, at))
        return value, slopes[:-1]

    rest = climb(held, of.numbers, of.explicit, found.psi[:-1], found.H[:-1, :-1].copy(), noise)
    H = np.eye(of.size)
    H[:-1, :-1] = rest.H
    why = "the counts vary no more than Poisson's. Take family='poisson'."
    if at < most:
        why = "nearly all counts are 0, and say nothing of how counts vary. Take family='poisson', or give phi a prior."
    return replace(rest, psi=np.append(rest.psi, at), H=H), (f"phi is at its border: {why}",)


class Uncertainty:
    """Covariances of the estimates by the Hessian of the criterion, at first use; none of a dispersion held fast.

    With ``given`` those of the fixed effects are of the mixed-model equations at the hyperparameters, taken as given:
    for a Gaussian response, whose two sets of estimates are independent in large samples.
    """

    def __init__(self, likelihood: Laplace, found: Maximum, held: bool = False, given: bool = False) -> None:
        self.likelihood, self.found, self.held, self.given = likelihood, found, held, given
        self._kept: tuple[Array, Array] | None = None

    def __call__(self) -> tuple[Array, Array]:
        """Return the covariance (P, P) of the working fixed effects and that of the hyperparameters on their scale."""
        if self._kept is None:
            self._kept = self._compute()
        return self._kept

    def _compute(self) -> tuple[Array, Array]:
        of, psi = self.likelihood, self.found.psi
        model = of.model
        H = hessian(of.evaluate, psi, self.found.H)
        moved = free(of.numbers, psi, of.explicit)
        if self.held:
            moved[-1] = False
        covariance = inverse_of_free(H, moved)
        rows = natural_rows(model, of.levels > 0)

        def natural(x: Array) -> Array:
            _, entries, dispersion = of.split(x)
            whole = np.ones(max(of.levels, 1))
            whole[: len(dispersion)] = dispersion
            return to_scale(natural_values(model, of.data.order, of.numbers.factors(entries), whole, rows), rows)

        J = jacobian(natural, psi) if rows else np.zeros((0, len(psi)))
        at = of.explicit
        spread = J[:, at:] @ covariance[at:, at:] @ J[:, at:].T
        spread[np.diag(spread) < 0.0] = np.nan
        if self.held:
            spread[-1], spread[:, -1] = np.nan, np.nan
        if of.explicit and not self.given:
            unit = of.beta_unit
            working = covariance[:at, :at] * np.outer(unit, unit)
        else:
            of.place(psi)
            working = of.joint().working_covariance
        return working, spread


def maximised(
    model: Model,
    engine: Engine,
    likelihood: Laplace,
    rng: np.random.Generator,
    *,
    method: str,
    notes: tuple[str, ...] = (),
    given: bool = False,
) -> Posterior:
    """Maximise a marginal likelihood and return the result; ``given`` as of `Uncertainty`."""
    if not likelihood.priors:
        require_rank(model)
        require_variances(model, likelihood.integrated)
    psi, H = begin(likelihood)
    noise = max(ROUNDING * abs(float(likelihood.point.facts[0])), likelihood.noise)
    found = climb(likelihood.evaluate, likelihood.numbers, likelihood.explicit, psi, H, noise)
    held: tuple[str, ...] = ()
    if model.family.name == "negative_binomial" and not likelihood.priors and np.isfinite(found.value):
        found, held = _border_of_phi(likelihood, found, noise)
    failures = []
    if not np.isfinite(found.value):
        raise DataError(
            f"The {method} likelihood cannot be computed even at the starting values: look for responses or columns "
            "of extreme size, and bring them to another unit."
        )
    likelihood.place(found.psi)
    _, entries, dispersion = likelihood.split(found.psi)
    T = likelihood.numbers.factors(entries)
    loglik = likelihood.value()
    priors = likelihood.priors
    if not priors:
        require_maximum(model, likelihood.predictor())
    joint = likelihood.joint()
    if not found.converged:
        gaussian = model.family.link.name == "identity" and likelihood.levels > 0
        failures.append(stopped(model, found.promise, float(dispersion.min()) if gaussian else None))
    restricted = likelihood.integrated
    criterion = "restricted log likelihood" if restricted else "log likelihood"
    if priors:
        criterion = "log posterior"
    notes = (*notes, *likelihood.notes)
    used = "The criterion is the marginal likelihood times the prior densities; intervals come from its curvature."
    return posterior(
        model,
        engine,
        Outcome(
            method=method,
            criterion=criterion,
            order=likelihood.data.order,
            T=T,
            dispersion=dispersion if len(dispersion) else np.ones(1),
            joint=joint,
            uncertainty=Uncertainty(likelihood, found, bool(held), given),
            log_likelihood=loglik,
            parameters=likelihood.X.shape[1] + likelihood.numbers.size + likelihood.levels,
            converged=found.converged,
            gradient=found.promise,
            iterations=found.iterations,
            singular=tuple(describe(model, likelihood.data.order, likelihood.numbers, T)),
            failures=tuple(failures),
            notes=(*notes, *held, *((used,) if priors else ())),
            priors_used=priors,
            estimated_dispersion=likelihood.levels > 0,
        ),
        rng,
    )

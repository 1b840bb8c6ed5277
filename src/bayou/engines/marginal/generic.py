"""The maximum of any marginal likelihood over rows, as a result: what `laplace` and `quadrature` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.engines.marginal.begin import begin
from bayou.engines.marginal.climb import Maximum, climb, hessian
from bayou.engines.marginal.identified import require_maximum, require_rank
from bayou.engines.marginal.natural import jacobian, natural_rows, natural_values, to_scale
from bayou.engines.marginal.result import Outcome, posterior
from bayou.engines.marginal.singular import describe
from bayou.errors import DataError

if TYPE_CHECKING:
    from bayou.engines.base import Engine
    from bayou.model import Model
    from bayou.posterior import Posterior


class Uncertainty:
    """Covariances of the estimates by the Hessian of the criterion, computed at first use."""

    def __init__(self, likelihood: Laplace, found: Maximum) -> None:
        self.likelihood, self.found = likelihood, found
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
        try:
            covariance = np.linalg.inv(H)
        except np.linalg.LinAlgError:
            covariance = np.full_like(H, np.nan)
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
        if of.explicit:
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
) -> Posterior:
    """Maximise a marginal likelihood and return the result."""
    if not likelihood.priors:
        require_rank(model)
    psi, H = begin(likelihood)
    found = climb(likelihood.evaluate, likelihood.numbers, likelihood.explicit, psi, H)
    failures = []
    if not np.isfinite(found.value):
        raise DataError(
            f"The {method} likelihood cannot be computed even at the starting values: look for responses or columns "
            "of extreme size, and bring them to another unit."
        )
    likelihood.place(found.psi)
    _, entries, dispersion = likelihood.split(found.psi)
    T = likelihood.numbers.factors(entries)
    joint = likelihood.joint()
    loglik = likelihood.value()
    priors = likelihood.priors
    if not priors:
        require_maximum(model, likelihood.point.eta)
    if not found.converged:
        failures.append(
            f"The search stopped where a step still promises {found.promise:.2g} of log likelihood: the estimates are "
            "not at its maximum. Bring columns to similar units, or give priors."
        )
    restricted = likelihood.integrated
    criterion = "restricted log likelihood" if restricted else "log likelihood"
    if priors:
        criterion = "log posterior"
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
            uncertainty=Uncertainty(likelihood, found),
            log_likelihood=loglik,
            parameters=likelihood.X.shape[1] + likelihood.numbers.size + likelihood.levels,
            converged=found.converged,
            gradient=found.promise,
            iterations=found.iterations,
            singular=tuple(describe(model, likelihood.data.order, likelihood.numbers, T)),
            failures=tuple(failures),
            notes=(*notes, *((used,) if priors else ())),
            priors_used=priors,
            estimated_dispersion=likelihood.levels > 0,
        ),
        rng,
    )

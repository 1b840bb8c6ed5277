"""The result of a model with structured effects that was maximised: estimates, their errors, draws when looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayou._types import Array
from bayou.binding.intrinsic import check_without_priors
from bayou.engines.marginal.climb import Maximum, hessian, inverse_of_free
from bayou.engines.marginal.field import Criterion, maximum
from bayou.engines.marginal.identified import require_maximum, require_rank, require_variances, stopped
from bayou.engines.marginal.natural import NaturalRow, jacobian, to_scale
from bayou.engines.marginal.result import CHAINS, DRAWS, FEWEST, LARGEST, scatter
from bayou.errors import DataError, Unsupported
from bayou.posterior import Posterior, factor_names
from bayou.posterior.estimates import Errors, Estimates, errors_of
from bayou.posterior.lazy import DrawnOnDemand

if TYPE_CHECKING:
    from bayou.conditional.field.naming import HyperRow
    from bayou.engines.base import Engine
    from bayou.model import Model

USED = "The criterion is the marginal likelihood times the prior densities; intervals come from its curvature."


def fitted_field(
    model: Model, engine: Engine, restricted: bool, rng: np.random.Generator, *, method: str, given: bool = False
) -> Posterior:
    """Maximise the (restricted) marginal likelihood of a model with structured effects.

    Parameters
    ----------
    method
        As printed.
    given
        Whether the covariance of the fixed effects takes the hyperparameters as given, as for a Gaussian response,
        where the two sets of estimates are independent in large samples.

    Raises
    ------
    Unsupported
        One dispersion per level of a family that is not Gaussian.
    DataError
        The likelihood has no maximum, or cannot be computed.
    """
    if len(model.design.sigma_levels) > 1 and model.family.name != "gaussian":
        raise Unsupported(
            f"{method} takes one {model.family.dispersion} for all rows; sigma_by= gives a {model.family.name} "
            "response several. Leave sigma_by out."
        )
    if not model.priors_given:
        require_rank(model)
        check_without_priors(model.design, model.effects)
        require_variances(model, restricted)
    of = Criterion(model, restricted)
    found, free = maximum(of)
    if not np.isfinite(found.value):
        raise DataError(
            f"The {method} likelihood cannot be computed even at the starting values: look for responses or columns "
            "of extreme size, and bring them to another unit."
        )
    if not of.priors:
        require_maximum(model, np.array(of.field.eta))
    return FieldResult(of, found, free, given).posterior(engine, method, rng)


class FieldResult:
    """Everything that is asked of a maximum, computed when it is.

    Parameters
    ----------
    of, found, free
        The criterion, its maximum, and which parameters are not at a border there.
    given
        As of `fitted_field`.
    """

    def __init__(self, of: Criterion, found: Maximum, free: NDArray[np.bool_], given: bool) -> None:
        self.of, self.found, self.free, self.given = of, found, free, given
        self.model = of.model
        own = of.inside(found.psi)
        self.theta = own[of.P :]
        of.field.place(own)
        self.log_likelihood = float(of.field.value())
        self.x = np.array(of.field.x)
        self.log_likelihood += self._to_the_border(own)
        of.field.place(own)
        if not of.restricted:
            of.whole.place(self.theta)
        where = of.whole.columns["beta"]
        self.latent = where.start
        self.beta = own[: of.P] * of.field.beta_unit if of.P else np.array(of.whole.x[where])
        dispersion = self.model.family.dispersion
        self.names = factor_names([g.name for g in self.model.design.groupings], dispersion)
        self.rows = printed_rows(of.whole.rows, self.names)
        self._kept: tuple[Array, Array] | None = None

    def _to_the_border(self, own: Array) -> float:
        """Return what the log likelihood gains from sds that stand for zero to zero: it is linear in their squares."""
        of, gain = self.of, 0.0
        for k in self._standing_for_zero():
            twice = own.copy()
            twice[of.P + k] += np.log(2.0)
            if of.field.place(twice):
                gain += (self.log_likelihood - float(of.field.value())) / 3.0
        return gain

    def _standing_for_zero(self) -> list[int]:
        """Return the coordinates of sds at the border."""
        of, psi = self.of, self.found.psi
        return [
            k
            for k, c in enumerate(of.coordinates)
            if c.kind == "sd" and not self.free[of.P + k] and psi[of.P + k] <= c.low
        ]

    def _vanished(self) -> NDArray[np.bool_]:
        """Return which coefficients (L,) of groups and structures are zero, their sd being so and nothing else free."""
        zero, out = set(self._standing_for_zero()), np.zeros(self.latent, dtype=bool)
        for part in self.of.whole.parts:
            if part.effect.null == 0:
                sds = [k for k, h in enumerate(part.effect.hyperparameters) if h.role == "sd"]
                for i, k in enumerate(sds):
                    if part.first + k in zero:
                        out[part.place][i :: len(sds)] = True
        return out

    def natural(self, theta: Array) -> Array:
        """Return the hyperparameters as printed, exactly zero (or one) at a border."""
        values = np.array(self.of.whole.natural(theta))
        coordinates = self.of.coordinates
        at = self.of.P
        low = {k for k, c in enumerate(coordinates) if not self.free[at + k] and self.found.psi[at + k] <= c.low}
        high = {k for k, c in enumerate(coordinates) if not self.free[at + k] and self.found.psi[at + k] >= c.high}
        for i, k in enumerate(self._positions()):
            if k in low:
                values[i] = {"log": 0.0, "logit": 0.0, "atanh": -1.0}[coordinates[k].scale]
            elif k in high and coordinates[k].scale != "log":
                values[i] = 1.0
            elif k >= 0 and any(need in low for need in coordinates[k].needs):
                values[i] = np.nan if coordinates[k].scale == "logit" else 0.0
        return values

    def _positions(self) -> list[int]:
        """Return for each printed row the internal coordinate that it is a function of alone, −1 if of several."""
        model, out, at = self.model, [], 0
        for g in model.design.groupings:
            sds, pairs = [0] * g.Z.shape[1], []
            for block in g.blocks:
                q = len(block)
                for i, column in enumerate(block):
                    sds[column] = at + i
                pairs += [at + 2] if q == 2 else [-1] * (q * (q - 1) // 2)
                at += q * (q + 1) // 2
            out += sds + pairs
        return out + list(range(at, len(self.of.coordinates)))

    # ---- errors ----------------------------------------------------------------------------

    def uncertainty(self) -> tuple[Array, Array]:
        """Return the covariance (P, P) of the working fixed effects and that of the rows on their scales."""
        if self._kept is None:
            of, psi = self.of, self.found.psi
            H = hessian(of.evaluate, psi, self.found.H)
            covariance = inverse_of_free(H, self.free)
            P = of.P
            J = jacobian(lambda t: to_scale(of.whole.natural(t), self.rows), self.theta)
            spread = J @ covariance[P:, P:] @ J.T
            spread[np.diag(spread) < 0.0] = np.nan
            for i, k in enumerate(self._positions()):
                if k >= 0 and not self.free[P + k]:
                    spread[i], spread[:, i] = np.nan, np.nan
            if P and not self.given:
                working = covariance[:P, :P] * np.outer(of.field.beta_unit, of.field.beta_unit)
            else:
                working = self._given_covariance()
            self._kept = working, spread
        return self._kept

    def _given_covariance(self) -> Array:
        """Return the block of the fixed effects in the joint Gaussian at the estimates."""
        return self._columns_of_beta()[self.latent :]

    def _columns_of_beta(self) -> Array:
        """Return the covariances (N, P) of all coefficients with the fixed effects."""
        whole = self.of.whole
        whole.place(self.theta)
        N, P = len(whole.x), len(self.beta)
        out = np.empty((N, P))
        for k in range(P):
            unit = np.zeros(N)
            unit[self.latent + k] = 1.0
            out[:, k] = whole.solve(unit)
        return out

    def effects(self, name: str) -> tuple[Array, Array]:
        """Return the modes of the coefficients of a factor or structured effect, and the roots of their variances."""
        whole = self.of.whole
        whole.place(self.theta)
        error = np.sqrt(np.maximum(whole.variances(), 0.0))
        x = np.concatenate([self.x[: self.latent], self.beta])
        x[: self.latent][self._vanished()] = 0.0
        mode, spread = (whole.unpack(v[None]) for v in (x, error))
        key = f"b_{name}" if f"b_{name}" in mode else f"f_{name}"
        return mode[key][0], spread[key][0]

    # ---- the result ------------------------------------------------------------------------

    def posterior(self, engine: Engine, method: str, rng: np.random.Generator) -> Posterior:
        """Build the result."""
        of, found, model = self.of, self.found, self.model
        rows = self.rows
        values = self.natural(self.theta)
        theta = to_scale(values, rows)
        back, P = model.working.to_printed, len(self.beta)
        scale = ("identity",) * P + tuple(row.scale for row in rows)
        estimate = np.concatenate([back @ self.beta, values])

        def errors() -> Errors:
            working, spread = self.uncertainty()
            border = ~np.isfinite(theta)
            spread = np.where(border[:, None] | border, np.nan, spread)
            return errors_of(back @ working @ back.T, spread, estimate, scale)

        criterion = "restricted log likelihood" if of.restricted else "log likelihood"
        failures: tuple[str, ...] = ()
        if not found.converged:
            gaussian = model.family.dispersion == "sigma" and not model.dispersion_known
            sigma = float(np.exp(self.theta[-1])) if gaussian else None
            failures = (stopped(model, found.promise, sigma),)
        estimates = Estimates(
            method=method,
            rows=(*(f"beta[{c}]" for c in model.design.coefficients), *(row.name for row in rows)),
            estimate=estimate,
            scale=scale,
            theta=theta,
            errors=errors,
            log_likelihood=self.log_likelihood,
            parameters=P + len(of.coordinates),
            observations=model.design.given,
            criterion="log posterior" if of.priors else criterion,
            converged=found.converged,
            gradient=float(np.sqrt(2.0 * max(found.promise, 0.0))),
            iterations=found.iterations,
            singular=tuple(self._borders(values)),
            failures=failures,
            notes=(USED,) if of.priors else (),
            priors_used=of.priors,
            effects=self.effects,
        )
        shapes, count = self._shapes()
        sequence = np.random.SeedSequence(int(rng.integers(2**63)))

        def draw() -> dict[str, Array]:
            return self._draw(values, theta, shapes, count, np.random.default_rng(sequence))

        return Posterior(
            model=model,
            engine=engine.describe(),
            draws=DrawnOnDemand(shapes, draw),
            info={"engine": engine.name, "messages": []},
            estimates=estimates,
        )

    def _borders(self, values: Array) -> list[str]:
        """Say which hyperparameters are at the border of what they can be."""
        said = []
        for row, value, k in zip(self.rows, values, self._positions(), strict=True):
            if k < 0 or self.free[self.of.P + k]:
                continue
            if self.of.coordinates[k].kind == "sd":
                said.append(
                    f"{row.name} is zero, the border of what it can be: the effect differs no more between its levels "
                    "than chance allows. Leave it out, or give its sd a prior."
                )
            elif row.scale == "log":
                said.append(
                    f"{row.name} is at its border: the counts vary no more than Poisson's. Take family='poisson'."
                )
            elif not any(not self.free[self.of.P + need] for need in self.of.coordinates[k].needs):
                said.append(
                    f"{row.name} is {value:g}, the border of what it can be: the data tell nothing more of it. "
                    "Take a simpler structure, or give it a prior."
                )
        return said

    def _shapes(self) -> tuple[dict[str, tuple[int, ...]], int]:
        """Return the shape of each variable among the draws, and how many draws a chain has."""
        count = int(np.clip(LARGEST // (8 * CHAINS * max(self.latent, 1)), FEWEST, DRAWS)) if self.latent else DRAWS
        whole = self.of.whole
        named = whole.unpack(np.zeros((1, len(whole.x))), self.names)
        named |= whole.unpack_theta(self.theta[None], self.names)
        return {name: (CHAINS, count, *v.shape[1:]) for name, v in named.items()}, count

    def _draw(
        self,
        values: Array,
        theta: Array,
        shapes: dict[str, tuple[int, ...]],
        count: int,
        rng: np.random.Generator,
    ) -> dict[str, Array]:
        """Draw the fixed effects from their Gaussian, coefficients given them, and hyperparameters beside.

        What the joint Gaussian's draws depart from their regression on the fixed effects is added to the mode at the
        estimates and to what the drawn fixed effects move it.
        """
        total = CHAINS * count
        working, spread = self.uncertainty()
        columns = self._columns_of_beta()
        whole = self.of.whole
        X = whole.draw(rng, total) - whole.x
        gain = np.linalg.solve(columns[self.latent :], columns[: self.latent].T).T if len(self.beta) else columns[:0]
        eigenvalues, vectors = np.linalg.eigh(working)
        moved = rng.standard_normal((total, len(self.beta))) @ (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))).T
        if len(self.beta):
            X[:, : self.latent] += (moved - X[:, self.latent :]) @ gain.T
        X[:, : self.latent] += self.x[: self.latent]
        X[:, : self.latent][:, self._vanished()] = 0.0
        X[:, self.latent :] = self.beta + moved
        drawn = whole.unpack(X, self.names)
        scatter(drawn, shapes, self.rows, np.nan_to_num(values), theta, spread, total, rng)
        return {name: v.reshape(CHAINS, count, *v.shape[1:]) for name, v in drawn.items()}


def printed_rows(rows: Sequence[HyperRow], names: Mapping[str, str]) -> list[NaturalRow]:
    """Return the hyperparameters' rows with the printed names of the factors."""
    out = []
    for row in rows:
        kind, _, rest = row.variable.partition("_")
        variable = f"{kind}_{names[rest]}" if row.index and rest in names else row.variable
        out.append(NaturalRow(variable + row.name.removeprefix(row.variable), row.scale, variable, row.index))
    return out

"""Joint estimation: penalised quasi-likelihood by the mixed-model equations of the working response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bayou._types import Array
from bayou.conditional.joint import Conditional
from bayou.conditional.prior import log_prior
from bayou.conditional.structure import LARGEST_DENSE
from bayou.engines.base import Engine
from bayou.engines.marginal.climb import Maximum, climb
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.marginal.expected import ExpectedUncertainty
from bayou.engines.marginal.identified import FAR, require_maximum, require_rank, require_variances
from bayou.engines.marginal.result import Outcome, posterior
from bayou.engines.marginal.singular import describe
from bayou.engines.marginal.working import Working, WorkingModel, linearise, solve_dispersion
from bayou.engines.starts import starting_effects
from bayou.errors import DataError, Unsupported

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Posterior

ROUNDS = 300
SETTLED = 1e-10  # squared change of eta, relative to its spread
FEW_TRIALS, FEW_ROWS = 5.0, 10.0


@dataclass(frozen=True, kw_only=True)
class PQL(Engine):
    """Penalised quasi-likelihood: fixed and group coefficients jointly, variances on the working response.

    Each round linearises the model at the present predictor, y* = eta + D⁻¹(y − mu) with weights W = D'R⁻¹D, and fits
    the linear mixed model of y*: its variance components by REML or ML, its coefficients by the mixed-model equations.
    Without bars it is a generalized linear model by iterated weighted least squares.

    Parameters
    ----------
    method
        "reml" or "ml": how the variance components of the working response are estimated.
    dispersion
        1, or "free" for an overdispersion phi, Var(y) = phi v(mu), estimated as the residual variance. Families with a
        dispersion of their own always estimate it: sigma and shape as the residual variance, the negative binomial's
        phi by the equation of squared residuals and their prediction error variances.
    variant
        "pql" linearises at the groups' own predictors, "mql" (marginal) at the population's.

    Raises
    ------
    Unsupported
        By `run`, for ``sigma_by``.

    Notes
    -----
    Standard errors of fixed effects come from the mixed-model equations, those of variance components from their
    expected information (Fisher scoring), as Breslow & Clayton's do; beyond 1,500 group coefficients from the observed.

    References
    ----------
    Breslow & Clayton, JASA 88 (1993). Goldstein, Biometrika 78 (1991), for the marginal variant.

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> formula = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(formula, clinic, family="binomial", engine="pql", seed=1)
    >>> fit.fixed_effects["estimate"].round(4).to_dict()
    {'Intercept': -1.1464, 'treatment[drug]': 0.7244}
    """

    name: ClassVar[str] = "pql"
    maximises: ClassVar[bool] = True
    method: Literal["reml", "ml"] = "reml"
    dispersion: Literal[1, "free"] = 1
    variant: Literal["pql", "mql"] = "pql"

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, known in (("method", ("reml", "ml")), ("dispersion", (1, "free")), ("variant", ("pql", "mql"))):
            if getattr(self, name) not in known:
                choices = " or ".join(map(repr, known))
                raise Unsupported(f"{name}={getattr(self, name)!r} is not known: PQL takes {name}={choices}.")

    def run(self, model: Model, rng: np.random.Generator) -> Posterior:
        """Fit the model."""
        if model.design.structured:
            raise Unsupported(
                f"PQL takes grouping factors; this model has the structured effect "
                f"{model.design.structured[0].name!r}. Use engine='laplace', 'inla' or 'metropolis'."
            )
        if len(model.design.sigma_levels) > 1:
            raise Unsupported("PQL takes one dispersion for all rows. Leave sigma_by out, or use engine='laplace'.")
        if self.dispersion == "free" and model.design.reduced is not None and model.family.name != "gaussian":
            raise Unsupported(
                "PQL reads a factor on the variance off the single rows, and identical ones were merged to "
                f"{model.design.n:,} of {model.design.given:,}. Leave dispersion='free' out, or fit in memory "
                "(stream=False)."
            )
        if model.priors_given and len(model.working.codes):
            raise Unsupported("PQL takes fixed effects with Normal or flat priors. Use engine='laplace'.")
        if model.structure.columns > LARGEST_DENSE:
            raise Unsupported(
                "PQL keeps a dense matrix for all factors but the largest, here of "
                f"{model.structure.columns:,} columns; it takes {LARGEST_DENSE:,}. Use engine='laplace'."
            )
        if not model.priors_given:
            require_rank(model)
            require_variances(model, self.method == "reml" and bool(model.design.groupings))
        elif not model.dispersion_known and (model.family.dispersion is not None or self.dispersion == "free"):
            raise Unsupported(
                "PQL with priors takes no dispersion to be estimated: its equations have no place for the prior of "
                "one. Use engine='laplace', or leave the priors out."
            )
        return _Rounds(self, model).result(rng)


class _Rounds:
    """The rounds of one fit."""

    def __init__(self, engine: PQL, model: Model) -> None:
        self.engine, self.model, self.family = engine, model, model.family
        self.own = self.family.name == "negative_binomial"  # a dispersion inside v(mu, phi)
        self.scaled = self.family.dispersion in ("sigma", "shape") and not model.dispersion_known
        self.free = self.scaled or (engine.dispersion == "free" and not self.own)
        self.fit = WorkingModel(model, engine.method == "reml", 0.0 if self.free else 1.0)
        if model.priors_given:
            border = self.fit.data.border
            self.fit._take(self.fit.sums._replace(border=border))
        self.phi = 1.0 if self.own else None
        self.failures: list[str] = []
        self.rounds = 0

    def result(self, rng: np.random.Generator) -> Posterior:
        """Go round until the predictor stands still, and hand over."""
        found, working = self._iterate()
        fit, model, engine = self.fit, self.model, self.engine
        if not model.priors_given:
            require_maximum(model, fit.eta(False))
        sums, work = fit.sums, fit.work
        P = len(sums.border.linear)
        n = sums.rows - P if fit.restricted else sums.rows
        variance = work.facts[0] / n if self.free else 1.0
        scale = float(np.sqrt(variance))
        T = scale * fit.numbers.factors(found.psi)
        relative = fit.numbers.factors(found.psi)
        joint = Conditional(
            model, fit.order, sums.arrow, sums.border, work.factor, relative, scale, fit.shift, np.nan
        )
        dispersion = {"sigma": scale, "shape": 1.0 / variance}.get(self.family.dispersion or "", self.phi or variance)
        grouped = bool(model.design.groupings)
        loglik = np.nan
        if not grouped and (not self.free or self.scaled):
            data = fit.data
            loglik = float(
                np.sum(self.family.log_density(data.y, fit.eta(True), dispersion, data.trials, data.weights))
            ) + model.design.remainder.constant
            loglik += fit.left.log_density(np.full(1, scale))
        kind = "joint (PQL)" if engine.variant == "pql" else "joint (MQL)"
        if not grouped:
            kind = "iterated weighted least squares"
        return posterior(
            model,
            engine,
            Outcome(
                method=kind,
                criterion="log likelihood" if not grouped else f"{engine.method.upper()} on the working response",
                order=fit.order,
                T=T,
                dispersion=np.array([dispersion]),
                joint=joint,
                uncertainty=ExpectedUncertainty(fit, found, scale, joint, self._dispersion_row(), self.own),
                log_likelihood=loglik,
                parameters=P + fit.numbers.size + int(self.free or self.own),
                converged=found.converged and not self.failures,
                gradient=found.promise,
                iterations=self.rounds,
                singular=tuple(describe(model, fit.order, fit.numbers, fit.numbers.factors(found.psi))),
                failures=tuple(self.failures),
                notes=tuple(self._notes(working)),
                priors_used=model.priors_given,
                estimated_dispersion=self.free or self.own,
            ),
            rng,
        )

    def _dispersion_row(self) -> float:
        """How the logarithm of what is printed moves with that of the residual sd; 0 where no row does."""
        if not self.free:
            return 0.0
        return {"sigma": 1.0, "shape": -2.0}.get(self.family.dispersion or "", 2.0)

    def _start(self) -> Array:
        beta = next(iter(starting_effects(self.model, np.random.default_rng(0))))
        X = self.model.working.X[self.fit.data.place]
        return np.asarray(self.fit.data.offset + X @ beta)

    @np.errstate(all="ignore")  # what overflows ends in a criterion that is not finite
    def _iterate(self) -> tuple[Maximum, Working]:
        fit, groups = self.fit, self.engine.variant == "pql"
        eta = self._start()
        psi = fit.numbers.start() * (1.0 if self.free else 0.5)
        H = None
        damped = 1.0
        last = np.inf
        for self.rounds in range(1, ROUNDS + 1):
            working = linearise(self.family, fit.data, eta, self.phi if self.own else 1.0)
            fit.fill(working)
            value, _ = fit.evaluate(psi)
            if not np.isfinite(value):
                if not self.model.priors_given:
                    require_maximum(self.model, np.array([FAR]))
                raise DataError(
                    "The equations of the working response cannot be solved: look for responses or columns of extreme "
                    "size, and bring them to another unit."
                )
            if H is None:
                H = usable_inverse(fit.information())
            found = climb(self._criterion, fit.numbers, 0, psi, H, self._noise())
            psi, H = found.psi, found.H
            if self.own:
                self.phi = min(solve_dispersion(fit.data, working, fit.prediction_errors(working)), 1e8)
            new = fit.eta(groups)
            change = float(np.mean(np.square(new - eta)))
            spread = float(np.mean(np.square(new))) + 1.0
            if change > 0.9 * last and self.rounds > 20:
                damped *= 0.7  # it swings
            last = change
            if change < SETTLED**2 * spread:
                break
            eta = eta + damped * (new - eta)
        else:
            self.failures.append(
                f"The working response still moves after {ROUNDS} rounds (by {np.sqrt(change):.1g}); take "
                "engine='laplace'."
            )
        return found, working

    def _noise(self) -> float:
        """Return by how much rounding of the residual squares, a difference, may move the criterion."""
        sums, left = self.fit.sums, float(self.fit.work.facts[0])
        return 1e-16 * sums.rows * float(sums.squares[0]) / max(left, 1e-300) if self.free else 0.0

    def _criterion(self, psi: Array) -> tuple[float, Array]:
        """Return the criterion of the working model, with the prior of the covariances where there is one."""
        value, gradient = self.fit.evaluate(psi)
        if not self.model.priors_given or not np.isfinite(value):
            return value, gradient
        scale = np.sqrt(self.fit.work.facts[0] / self.fit.sums.rows) if self.free else 1.0

        def prior(x: Array) -> float:
            return log_prior(self.model, self.fit.order, scale * self.fit.numbers.factors(x), np.zeros(0))

        slopes = np.empty(len(psi))
        for i in range(len(psi)):
            step = np.zeros(len(psi))
            step[i] = 1e-6 * max(1.0, abs(psi[i]))
            slopes[i] = (prior(psi + step) - prior(psi - step)) / (2.0 * step[i])
        return value - prior(psi), gradient - slopes

    def _notes(self, working: Working) -> list[str]:
        notes: list[str] = []
        model, groupings = self.model, self.model.design.groupings
        if self.own and self.phi is not None and self.phi >= 1e8:
            notes.append("phi is at its border: the counts vary no more than Poisson's. Take family='poisson'.")
        if not groupings:
            return notes
        if self.family.name in ("bernoulli", "binomial"):
            trials = float(self.fit.data.trials.sum() / model.design.given)
            rows = min(model.design.given / len(g.levels) for g in groupings)
            if trials < FEW_TRIALS:
                few = f" and {rows:.3g} rows a group" if rows < FEW_ROWS else ""
                notes.append(
                    f"PQL shrinks here: with binary outcomes ({trials:.3g} trials a row{few}) its variances and "
                    "effects are known to be too small. Compare with engine='laplace', or 'quadrature' for one factor."
                )
        elif self.family.link.name == "log" and float(np.mean(working.mean)) < FEW_TRIALS:
            rows = min(model.design.given / len(g.levels) for g in groupings)
            if rows < FEW_ROWS:
                notes.append(
                    f"PQL shrinks where groups hold few and small counts (here {rows:.3g} rows with means about "
                    f"{float(np.mean(working.mean)):.2g}): compare with engine='laplace'."
                )
        return notes

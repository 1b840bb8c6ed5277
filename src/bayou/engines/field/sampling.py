"""From a model with structured effects to a plan of chains: the mode of theta, its curvature, names of the draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou._types import Array
from bayou.engines.chains import ChainEngine
from bayou.engines.draws import Draws, Plan
from bayou.engines.field.chain import FieldChain
from bayou.engines.field.target import Target, field_of
from bayou.engines.marginal.climb import descend, hessian
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.starts import starting_theta
from bayou.errors import Unsupported
from bayou.posterior import factor_names

if TYPE_CHECKING:
    from bayou.conditional.field import Field
    from bayou.model import Model
    from bayou.posterior import Posterior

NOISE = 1e-10  # by which rounding may raise the criterion along a step
SPREADS = 3.0  # of a coordinate, at most, where the posterior is nearly flat


def field_plan(model: Model) -> Plan:
    """Find the mode of the hyperparameters' marginal posterior, and return the plan of chains around it.

    Raises
    ------
    Unsupported
        One dispersion per level of a family that is not Gaussian.
    """
    if len(model.design.sigma_levels) > 1 and model.family.name != "gaussian":
        raise Unsupported(
            f"With structured effects all rows share one {model.family.dispersion}; sigma_by= gives a "
            f"{model.family.name} response several. Leave sigma_by out, or write the effect as (1 | g)."
        )
    approximation = field_of(model)
    centre, spread = mode_and_spread(approximation)
    return plan_at(model, approximation, centre, spread)


def mode_and_spread(of: Field) -> tuple[Array, Array]:
    """Return the mode (d,) of theta and a factor (d, d) of the inverse curvature there, bounded where it is flat."""
    psi = starting_theta(of)
    found = descend(of.evaluate, psi, np.eye(of.size), NOISE)
    if not np.isfinite(found.value):
        return psi, np.eye(of.size)
    centre = found.psi
    curvature = hessian(of.evaluate, centre, found.H)
    covariance = usable_inverse(curvature + np.eye(of.size) / SPREADS**2)
    return centre, np.asarray(np.linalg.cholesky(covariance))


def plan_at(
    model: Model, approximation: Field, centre: Array, spread: Array, starts: Array | None = None
) -> Plan:
    """Return the plan of chains whose proposals begin at ``centre`` with a factor ``spread``.

    Parameters
    ----------
    starts
        (chains, d) where the chains begin; dispersed around the centre if None.
    """
    d = approximation.size
    found = approximation.place(centre)
    target = Target(model, approximation, np.array(approximation.x) if found else np.zeros(len(approximation.x)))
    q, N = target.latent, len(target.start)
    waiting = None if starts is None else list(np.array(starts, dtype=np.float64))

    def shape(draws: int, with_b: bool) -> Draws:
        return Draws(
            np.empty((draws, N - q)),
            np.empty((draws, q if with_b else 0)),
            np.zeros((draws, 0, 1, 1)),
            np.empty((draws, d)),
            {"accepted": np.empty(draws)},
        )

    def new_chain(rng: np.random.Generator) -> FieldChain:
        start = waiting[int(rng.bit_generator.seed_seq.spawn_key[-1]) % len(waiting)] if waiting else None  # type: ignore[attr-defined]
        return FieldChain(target, centre, spread, rng, start)

    how = "from their marginal posterior" if target.exact else "with the coefficients' own normals held"
    moved = "drawn exactly" if target.exact else "by elliptical slices around their Gaussian"
    return Plan(
        new_chain=new_chain,
        shape=shape,
        coefficients=q,
        finish=lambda chains: finished(model, approximation, chains, q),
        messages=(),
        method=f"{d} hyperparameters {how}, {N:,} coefficients {moved}",
    )


def finished(model: Model, of: Field, chains: list[Draws], latent: int) -> dict[str, Array]:
    """Name the draws: beta, b_g, f_name, hyperparameters; leading axes (chain, draw)."""
    names = factor_names([g.name for g in model.design.groupings], model.family.dispersion)
    C = len(chains)
    beta = np.concatenate([c.beta for c in chains])
    b = np.concatenate([c.b for c in chains])
    known = of.unpack_theta(np.concatenate([c.dispersion for c in chains]), names)
    nothing = np.zeros((len(beta), latent))
    known["beta"] = of.unpack(np.hstack([nothing, beta]), names)["beta"]
    if b.shape[1]:  # of which there may be fewer than of the others
        coefficients = of.unpack(np.hstack([b, np.zeros((len(b), beta.shape[1]))]), names)
        known |= {name: values for name, values in coefficients.items() if name != "beta"}
    return {name: values.reshape(C, len(values) // C, *values.shape[1:]) for name, values in known.items()}


@dataclass(frozen=True, kw_only=True)
class _Continued(ChainEngine):
    """Chains whose plan is made already."""

    name: ClassVar[str] = "metropolis"
    plan: Plan = field(repr=False)

    def prepare(self, model: Model) -> Plan:
        """Return the plan."""
        return self.plan

    def describe(self) -> str:
        """Return the settings as one would type them."""
        return f"Metropolis(draws={self.draws}, warmup={self.warmup}, chains={self.chains})"


def continue_from(
    model: Model,
    centre: Array,
    spread: Array,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    cores: int | None = None,
    progress: bool | None = None,
    starts: Array | None = None,
    approximation: Field | None = None,
) -> Posterior:
    """Go on by Markov chain from where an approximation of the posterior stands.

    Parameters
    ----------
    model
        The model.
    centre, spread
        Of theta in internal coordinates: (d,), and a factor (d, d) of its covariance.
    rng
        The generator; each chain gets a child of its seed.
    draws, warmup, chains, cores, progress
        As in `bayou.engines.chains.ChainEngine`.
    starts
        (chains, d) values of theta, such as draws of the approximation, where the chains begin.
    approximation
        A `Field` of the model with the fixed effects integrated, if there is one.

    Returns
    -------
    Posterior
        Exact up to Monte Carlo error, whatever the approximation was.
    """
    of = field_of(model) if approximation is None else approximation
    plan = plan_at(model, of, np.asarray(centre, dtype=np.float64), np.asarray(spread, dtype=np.float64), starts)
    settings = {"draws": draws, "warmup": warmup, "chains": chains, "cores": cores, "progress": progress}
    return _Continued(plan=plan, **settings).run(model, rng)  # type: ignore[arg-type]

"""NUTS: Hamiltonian Monte Carlo on the joint density of everything unknown, for every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bayou.binding.defaults import outcome_level, outcome_scale
from bayou.engines.chains import ChainEngine
from bayou.engines.draws import Chain, Plan
from bayou.engines.hamiltonian.adapter import LEAST_WARMUP, Settings, library, takes_pointers
from bayou.engines.hamiltonian.chain import Names, run_chain, starting_points
from bayou.errors import DataError, Unsupported
from bayou.families import Custom
from bayou.families.custom import verify
from bayou.joint import joint_density
from bayou.joint.pointer import log_density

if TYPE_CHECKING:
    from bayou.engines.record import Record
    from bayou.model import Model

COORDINATES = ("auto", "whitened", "centered", "laplace")
MASSES = ("auto", "low_rank", "diagonal")


@dataclass(frozen=True)
class HamiltonianPlan(Plan):
    """A plan whose chains run in nutpie's threads."""

    names: Names
    model: Model


@dataclass(frozen=True, kw_only=True)
class NUTS(ChainEngine):
    """The no-U-turn sampler on the joint density of coefficients, covariances and dispersion, run by nutpie.

    It takes every model: all families, effects and priors with a density, and `bayou.families.Custom`. The density and
    its gradient are bayou's own compiled kernels (`bayou.joint`); the step size and a mass matrix are tuned in warm-up.

    Parameters
    ----------
    coordinates
        In which the sampler moves. "whitened": b = L z with z ~ N(0, I), for groups of few data; "centered": b itself,
        for groups of many; "laplace": all coefficients mapped by the Laplace approximation at the posterior mode, so
        that the target is near N(0, I); "auto" (default) chooses for each block of coefficients from the data.
    target_accept
        Mean acceptance that the step size is tuned to; more (.95, .99) means smaller steps and fewer divergences.
    max_depth
        At most 2**max_depth gradients for one draw.
    mass_matrix
        "low_rank" adapts to the strongest correlations too, "diagonal" to the scales alone; "auto" (default) is
        diagonal where the coordinates have taken the correlations out already ("auto", "laplace"): it costs less.

    Notes
    -----
    Each chain is a run of nutpie's with a seed of its own, so that the draws are the same for any number of ``cores``.
    A warm-up shorter than 20 draws is one of 20: without a step size there is no chain.
    Beside the draws stand, under ArviZ's names, ``diverging``, ``tree_depth``, ``reached_max_treedepth``, ``energy``,
    ``step_size``, ``n_steps``, ``acceptance_rate`` and ``lp``; the verdict speaks of divergences, of trees that were
    cut off and of E-BFMI.

    Raises
    ------
    Unsupported
        By `run`: for ``store=``, as a chain of nutpie's cannot be taken up again; without nutpie; for a model without a
        point of finite density.

    References
    ----------
    Hoffman & Gelman, Journal of Machine Learning Research 15 (2014). Betancourt, A conceptual introduction to
    Hamiltonian Monte Carlo (2017).

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> text = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(text, clinic, family="binomial", engine=bayou.engines.NUTS(draws=500), seed=1)
    >>> fit.result.statistics["tree_depth"].shape
    (4, 500)
    """

    name: ClassVar[str] = "nuts"
    draws: int = 1000
    warmup: int = 500
    coordinates: Literal["auto", "whitened", "centered", "laplace"] = "auto"
    target_accept: float = 0.8
    max_depth: int = 10
    mass_matrix: Literal["auto", "low_rank", "diagonal"] = "auto"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.coordinates not in COORDINATES:
            raise Unsupported(f"coordinates={self.coordinates!r} is not known: NUTS takes {', '.join(COORDINATES)}.")
        if self.mass_matrix not in MASSES:
            raise Unsupported(f"mass_matrix={self.mass_matrix!r} is not known: NUTS takes {', '.join(MASSES)}.")
        number = isinstance(self.target_accept, (int, float, np.floating)) and not isinstance(self.target_accept, bool)
        if not number or not 0.0 < self.target_accept < 1.0:
            raise DataError(f"target_accept={self.target_accept!r}: give a number between 0 and 1, such as 0.9.")
        whole = isinstance(self.max_depth, (int, np.integer)) and not isinstance(self.max_depth, bool)
        if not whole or not 1 <= self.max_depth <= 20:
            raise DataError(f"max_depth={self.max_depth!r}: max_depth must be a whole number from 1 to 20.")

    def prepare(self, model: Model) -> HamiltonianPlan:
        """Compile the density and choose the coordinates."""
        if self.store is not None:
            raise Unsupported(
                "NUTS runs through nutpie, whose chains cannot be taken up again once they have ended, so it has no "
                "store=. Leave store= out and keep the result with fit.save('fit.nc'), or use engine='metropolis'."
            )
        library()
        if isinstance(model.family, Custom):
            verify_custom(model, model.family)
        density = joint_density(model, self.coordinates)
        names = Names(density, density.start(np.random.default_rng(0)))
        if takes_pointers():
            log_density(density.new_job().kind)  # compiled here, before there are threads that all need it
        return HamiltonianPlan(
            new_chain=_no_steps,
            shape=names.empty,
            coefficients=names.sizes[1],
            finish=names.finish,
            messages=tuple(f"Coordinates of {line}." for line in density.describe()),
            method=f"{density.size:,} unknowns",
            names=names,
            model=model,
        )

    def _chain(self, plan: Plan, rng: np.random.Generator, number: int, record: Record, progress: Any) -> None:
        """Run one chain."""
        assert isinstance(plan, HamiltonianPlan)
        mapped = self.coordinates in ("auto", "laplace")
        settings = Settings(
            draws=self.draws * self.thin,
            warmup=max(self.warmup, LEAST_WARMUP),
            seed=int(rng.integers(2**63)),
            target_accept=float(self.target_accept),
            max_depth=int(self.max_depth),
            diagonal=mapped if self.mass_matrix == "auto" else self.mass_matrix == "diagonal",
        )

        def said(steps: int) -> None:
            progress.scans[number] = steps

        start = starting_points(plan.names, plan.model, rng)
        run_chain(plan.names, settings, self.thin, start, record, progress.stop, said)


def verify_custom(model: Model, family: Custom) -> None:
    """Hold the derivatives of a user's family to finite differences where the model will be.

    Raises
    ------
    DataError
        Where they are wrong.
    """
    rows = np.unique(np.linspace(0, model.design.n - 1, 12).astype(int))
    level, scale = outcome_level(model.design), outcome_scale(model.design)
    eta = level + scale * np.array([-1.3, -0.4, 0.35, 1.2])
    dispersion = (scale if family.dispersion == "sigma" else 1.0) * np.array([0.4, 1.1, 6.0])
    verify(family, model.design.y[rows][:, None, None], eta[:, None], dispersion)


def _no_steps(rng: np.random.Generator) -> Chain:
    raise Unsupported("NUTS has no single steps to take: its chains are run whole, by nutpie. Use bayou.fit(...).")

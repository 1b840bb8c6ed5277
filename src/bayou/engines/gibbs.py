"""Gibbs sampling for Gaussian mixed models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bayou._types import Array
from bayou.effects.iid import coordinates_from_factor, tabulate
from bayou.engines.centring import centring
from bayou.engines.chains import ChainEngine
from bayou.engines.contract import contract
from bayou.engines.draws import Chain, Draws, Plan, restore_into, snapshot_of
from bayou.engines.lmm import collapsed, scan
from bayou.engines.lmm.state import CARRIED, State, Target, new_state
from bayou.engines.starts import starting_factors, starting_scale
from bayou.engines.tuning import looks_normal, next_boundary, refit
from bayou.errors import Unsupported
from bayou.linalg.schur import new_factor
from bayou.packed import packed
from bayou.sufficient import Sufficient, sufficient

if TYPE_CHECKING:
    from bayou.model import Model

Parameterization = Literal["collapsed", "crossed", "joint", "blocked", "marginal", "centered", "uncentered"]
LOCATIONS = {
    "blocked": scan.JOINT,
    "marginal": scan.JOINT,
    "centered": scan.CENTERED,
    "uncentered": scan.UNCENTERED,
}
COLLAPSED_LIMIT = 10  # numbers in theta up to which one proposal for all of them is accepted often
FEW = 64  # columns beside the largest factor up to which a dense Schur complement is taken unseen
COSTLY = 50  # columns of the Schur complement from which a rejected proposal costs more than thought on it
NORMAL = 0.8  # share of a normal in the proposals then, if the posterior looks normal
DENSE_LIMIT = 6000  # columns of the dense Schur complement (288 MB a chain)


@dataclass(frozen=True, kw_only=True)
class Gibbs(ChainEngine):
    """Gibbs sampler for a Gaussian response with identity link.

    The rows are summed once per level of the largest factor; after that the cost of a draw depends on
    the number of levels and coefficients only. Several large factors are gone through one at a time, at a
    cost linear in the pairs of levels that occur.

    Parameters
    ----------
    parameterization
        "collapsed" (default): covariances and residual sds from their marginal posterior with all
        coefficients integrated out, where they are at most ten numbers and every prior on beta is
        Gaussian; otherwise as "blocked". With several factors and more than 64 coefficients beside those of
        the largest, whichever of this, "crossed" and "joint" costs least for an independent draw
        (`bayou.engines.crossed.choice` states the costs); the method of the result says which, and why.
        "crossed": factor by factor, each factor's covariance and sigma with its coefficients and the fixed
        effects integrated out, then these; shifts between factors that no row sees.
        "joint": as "crossed", then all coefficients at once by conjugate gradients: where the levels are
        so badly connected that sweeps hardly move them.
        "blocked": all coefficients jointly given the covariances, then each covariance given the
        coefficients, conjugate and whitened in turn.
        "marginal": as "blocked" without the whitened move (beta with b integrated out).
        "centered", "uncentered": the two textbook samplers, one full conditional at a time.
        Models with structured effects are always collapsed, whatever their number of hyperparameters.

    Raises
    ------
    Unsupported
        By `run`, for other families; of "blocked", "marginal", "centered" and "uncentered" also for several
        factors of which the smaller ones have more than 6,000 coefficients in all.

    References
    ----------
    Hoff, A First Course in Bayesian Statistical Methods (2009), ch. 11. Yu & Meng, JCGS 20 (2011).
    Papaspiliopoulos, Roberts & Zanella, Biometrika 107 (2020). Papandreou & Yuille, NIPS 23 (2010).

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> fit = bayou.fit("score ~ ses + (ses | school)", school, engine=bayou.engines.Gibbs(draws=200), seed=1)
    >>> fit.draws()["beta[ses]"].shape
    (800,)
    """

    name: ClassVar[str] = "gibbs"
    parameterization: Parameterization = "collapsed"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.parameterization not in ("collapsed", "crossed", "joint", *LOCATIONS):
            raise Unsupported(
                f"parameterization={self.parameterization!r} is not known; "
                f"use one of {', '.join(('collapsed', *LOCATIONS))}."
            )

    def check(self, model: Model) -> None:
        """Raise `Unsupported` for a model that this engine cannot take."""
        if model.family.name != "gaussian" or model.family.link.name != "identity":
            raise Unsupported(
                "Gibbs needs a Gaussian response with identity link; this model has family "
                f"{model.family.name} with link {model.family.link.name}. Use engine='metropolis'."
            )
        if model.design.structured or self.parameterization in ("collapsed", "crossed", "joint"):
            return
        border = _border(model)
        if border > DENSE_LIMIT:
            raise Unsupported(
                f"Gibbs(parameterization={self.parameterization!r}) keeps a dense matrix of all coefficients but those "
                f"of the largest factor: here {border:,} rows and columns, and it takes up to {DENSE_LIMIT:,}. "
                "Use parameterization='crossed', which needs no such matrix."
            )

    def prepare(self, model: Model) -> Plan:
        """Sum the rows, choose the method, and find the mode of theta if it is collapsed."""
        self.check(model)
        if model.design.structured:
            from bayou.engines.field.sampling import field_plan  # loaded for such models alone

            return field_plan(model)
        plan = self._by_factor(model)
        if plan is not None:
            return plan
        sums = sufficient(model)
        target = gaussian_target(model, sums)
        sigmas = 0 if target.sigma_known else len(target.cells.rows)
        size = int((target.blocks.size * (target.blocks.size + 1) // 2).sum()) + sigmas
        collapse = self.parameterization == "collapsed" and 0 < size <= COLLAPSED_LIMIT and not len(target.beta_codes)
        q = int((target.levels * target.sizes).sum())
        B, m = target.blocks.A.shape

        def shape(draws: int, with_b: bool) -> Draws:
            return Draws(
                np.empty((draws, target.border.precision.shape[0])),
                np.empty((draws, q if with_b else 0)),
                np.zeros((draws, B, m, m)),
                np.empty((draws, len(target.cells.rows))),
                {"accepted": np.empty(draws)} if collapse else {},
            )

        if collapse:
            mode, spread = _mode(model, target)
            method = f"collapsed: {size} covariance parameters from their marginal posterior"
            new_chain: Callable[[np.random.Generator], Chain] = partial(CollapsedChain, target, mode, spread)
        else:
            location = LOCATIONS.get(self.parameterization, scan.JOINT)
            whitened = self.parameterization in ("collapsed", "blocked")
            method = {
                "centered": "centered: one full conditional at a time, groups around their centre",
                "uncentered": "uncentered: one full conditional at a time, groups around zero",
                "marginal": "marginal: beta with the group coefficients integrated out",
            }.get(self.parameterization, "blocked: all coefficients jointly, covariances with whitened moves")
            new_chain = partial(SweepChain, model, target, location, whitened)
        return Plan(
            new_chain=new_chain,
            shape=shape,
            coefficients=q,
            finish=lambda chains: contract(model, sums.order, target.blocks, chains, sums.shift),
            messages=(),
            method=method,
        )


    def _by_factor(self, model: Model) -> Plan | None:
        """Return the plan of a sampler that goes through the factors, if it was asked for or costs least."""
        asked = self.parameterization in ("crossed", "joint")
        cheapest = self.parameterization == "collapsed" and _border(model) > FEW
        if not model.design.groupings or not (asked or cheapest):
            return None
        from bayou.engines.crossed.chain import crossed_plan  # kernels that most models do without

        return crossed_plan(model, self.parameterization if asked else "cheapest")


def _border(model: Model) -> int:
    """Return the columns of a dense Schur complement: of all factors but the largest, and the fixed effects."""
    sizes = sorted(g.Z.shape[1] * len(g.levels) for g in model.design.groupings)
    return sum(sizes[:-1]) + model.design.X.shape[1] if len(sizes) > 1 else 0


def gaussian_target(model: Model, sums: Sufficient) -> Target:
    """Bring a Gaussian model and its sums into the form of the kernels."""
    groupings = model.design.groupings
    position = {g: k for k, g in enumerate(sums.order)}
    blocks = tabulate(model.bound.blocks)
    blocks = blocks._replace(grouping=np.array([position[g] for g in blocks.grouping], dtype=np.int64))
    return Target(
        cells=sums.cells,
        arrow=sums.pattern,
        border=sums.border,
        ridged=sums.border._replace(precision=sums.border.precision + np.diag(model.working.curvature)),
        blocks=blocks,
        levels=np.array([len(groupings[g].levels) for g in sums.order], dtype=np.int64),
        sizes=np.array([groupings[g].Z.shape[1] for g in sums.order], dtype=np.int64),
        sigma_code=int(model.bound.dispersion_code),
        sigma_parameters=np.asarray(model.bound.dispersion_parameters, dtype=np.float64),
        sigma_known=model.dispersion_known,
        beta_codes=model.working.codes,
        beta_parameters=model.working.parameters,
        moves=centring(model, sums.order),
    )


def _own(target: Target) -> Target:
    """Give a chain its own copy of what `combine` overwrites."""
    if len(target.cells.rows) == 1:
        return target
    arrow = target.arrow
    mine = arrow._replace(A=arrow.A.copy(), a=arrow.a.copy(), C=arrow.C.copy(), D=arrow.D.copy(), d=arrow.d.copy())
    return target._replace(arrow=mine)


def _mode(model: Model, target: Target) -> tuple[Array, Array]:
    """Mode of theta and a factor of its inverse curvature."""
    L, sigma = starting_factors(model, target.blocks, 1.0), starting_scale(model, 1.0)
    own = _own(target)
    state = new_state(own, new_factor(own.arrow), L, sigma)
    sizes = target.blocks.size
    parts = [coordinates_from_factor(L[r, : sizes[r], : sizes[r]]) for r in range(len(sizes))]
    units = [np.where(np.arange(len(t)) < q, t, 1.0) for t, q in zip(parts, sizes, strict=True)]
    if not target.sigma_known:
        parts.append(np.log(sigma))
        units.append(np.ones(len(sigma)))
    return collapsed.mode_and_spread(packed(own), packed(state), np.concatenate(parts), np.concatenate(units))


class CollapsedChain:
    """One chain of the collapsed sampler."""

    def __init__(self, target: Target, mode: Array, spread: Array, rng: np.random.Generator) -> None:
        self.target, self.rng = _own(target), rng
        self.centre, self.spread = mode.copy(), spread.copy()
        B, m = target.blocks.A.shape
        start = np.zeros((B, m, m))
        sigma = np.ones(len(target.cells.rows))
        self.packed = packed(self.target)
        self.states = [packed(new_state(self.target, new_factor(target.arrow), start, sigma)) for _ in range(2)]
        self.theta = mode.copy()
        self.value = -np.inf
        for scale in (1.0, 1.0, 1.0, 0.5, 0.25, 0.0):  # a dispersed start that is in the support
            self.theta = mode + 1.5 * scale * spread @ rng.standard_normal(len(mode))
            self.value = collapsed.log_marginal(self.packed, self.states[0], self.theta)
            if self.value > -np.inf:
                break
        self.seen: list[Array] = []
        self.before = np.empty((0, len(mode)))
        self.normal = 0.0
        self.frozen = False

    def boundary(self, scan: int) -> int:
        """Return the next refit."""
        return next_boundary(scan)

    def adapt(self, scan: int, warmup: int) -> None:
        """Fit the proposal to the draws since the last boundary, with those before if they are more."""
        if self.seen:
            seen = np.concatenate(self.seen)
            pooled = seen if len(seen) >= len(self.before) else np.concatenate([self.before, seen])
            self.centre, self.spread = refit(pooled, self.centre, self.spread)
            self.before = seen
            if len(self.target.arrow.d) >= COSTLY and looks_normal(pooled):
                self.normal = NORMAL
        self.seen = []
        self.frozen = scan >= warmup

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin scans."""
        theta, accepted = np.empty((draws, len(self.theta))), out.statistics["accepted"]
        one, two = self.states
        done, swapped, self.value = collapsed.run_collapsed(
            self.packed, one, two, self.theta, self.value, self.centre, self.spread, self.normal, thin,
            theta, out.beta, out.b, out.L, out.dispersion, accepted, self.rng,
        )  # fmt: skip
        if swapped:
            self.states = [two, one]
        if not self.frozen:
            self.seen.append(theta)
        return int(done)

    def group_statistics(self) -> dict[str, Array]:
        """Nothing by group: the coefficients are drawn exactly."""
        return {}

    def snapshot(self) -> dict[str, Array]:
        """Return theta with its density, the proposal, and what it is being tuned on."""
        d = len(self.theta)
        return {
            "theta": self.theta.copy(),
            "value": np.array([self.value, self.normal]),
            "centre": self.centre,
            "spread": self.spread,
            "seen": np.concatenate(self.seen) if self.seen else np.empty((0, d)),
            "before": self.before,
            "frozen": np.array([float(self.frozen)]),
        }

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up the state of a `snapshot`, and factorise at its theta."""
        self.theta = snapshot["theta"].copy()
        self.centre, self.spread, self.before = snapshot["centre"], snapshot["spread"], snapshot["before"]
        self.seen = [snapshot["seen"]] if len(snapshot["seen"]) else []
        self.frozen = bool(snapshot["frozen"][0])
        collapsed.log_marginal(self.packed, self.states[0], self.theta)
        self.value, self.normal = (float(v) for v in snapshot["value"])


class SweepChain:
    """One chain of the samplers that draw one block at a time."""

    def __init__(self, model: Model, target: Target, location: int, whitened: bool, rng: np.random.Generator) -> None:
        self.target, self.rng = _own(target), rng
        self.location, self.whitened = location, whitened
        spread = float(np.exp(0.7 * rng.standard_normal()))
        L = starting_factors(model, target.blocks, spread)
        self.state: State = new_state(self.target, new_factor(target.arrow), L, starting_scale(model, 1.0))
        known = len(target.beta_codes)
        for i in range(known):
            at = len(self.state.rest) - known + i
            self.state.rest[at] = model.working.inside(i)
        self.packed = packed(self.target), packed(self.state)

    def boundary(self, scan: int) -> int:
        """Nothing to tune."""
        return 2**62

    def adapt(self, scan: int, warmup: int) -> None:
        """Nothing to tune."""

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin scans."""
        return int(
            scan.run_scans(
                *self.packed, self.location, self.whitened, thin,
                out.beta, out.b, out.L, out.dispersion, self.rng,
            )
        )  # fmt: skip

    def group_statistics(self) -> dict[str, Array]:
        """Nothing by group: every conditional is exact."""
        return {}

    def snapshot(self) -> dict[str, Array]:
        """Return all that a scan starts from."""
        return snapshot_of(self.state, CARRIED)

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up the state of a `snapshot`."""
        restore_into(self.state, snapshot)

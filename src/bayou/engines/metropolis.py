"""Metropolis-within-Gibbs for any family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bayou._types import Array
from bayou.design.files import row_array
from bayou.effects.iid import tabulate
from bayou.engines.centring import centring
from bayou.engines.chains import ChainEngine
from bayou.engines.contract import contract
from bayou.engines.draws import Draws, Plan, restore_into, snapshot_of
from bayou.engines.glmm import scan
from bayou.engines.glmm.carrier import Fitting, new_carrier
from bayou.engines.glmm.nested import lineages
from bayou.engines.glmm.regression import Rows, Scratch
from bayou.engines.glmm.rows import lay_out
from bayou.engines.glmm.state import APPROXIMATION, CARRIED, State, Target, is_gaussian
from bayou.engines.starts import no_start, starting_effects, starting_factors, starting_scale
from bayou.engines.tuning import next_boundary
from bayou.errors import DataError, Unsupported
from bayou.families.rows import LANES
from bayou.linalg.schur import Border
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model

LARGE = 1 << 20  # rows of a level from which scratch for it is kept in a file, where the rows are
ROUNDS, SHORTEST = 40, 1e-8  # of the climb to the starting point: rounds, and the least part of a Newton step


@dataclass(frozen=True, kw_only=True)
class Metropolis(ChainEngine):
    """Metropolis-within-Gibbs: each group's coefficients are proposed and accepted on their own rows.

    Parameters
    ----------
    proposal
        "laplace" (default): each group's own Gaussian approximation around one Newton step, with
        scalings and shears of the group coefficients that move the covariance along, so that group
        sds near zero mix.
        "random_walk": Hoff's sampler: theta, then Sigma, then each group from
        N(current, scale x Sigma).
    scale
        Of the random walk. A number keeps it (Hoff uses 1/2); "adapted" tunes it in warm-up towards an
        acceptance of .28 and freezes it.

    Notes
    -----
    Where a factor's columns all stand among the fixed effects, the fixed effects are drawn with each
    group's own line held (the centred sampler), and all fixed effects get a Laplace proposal given the
    groups (the random walk: only if one has no random counterpart). The default proposal also moves the
    hyperparameters of a factor against an approximation to their marginal posterior, fitted in warm-up, with
    every group carried along by its own Gaussian approximation (`bayou.engines.glmm.carried`).
    Sds of nested factors are drawn with all but the sums of their coefficients integrated out. The
    dispersion has its own step.

    Models with structured effects (`rw1(t)`, `icar(area, graph=W)`, …) have a sampler of their own, whatever the
    settings of the proposal: hyperparameters with the coefficients carried along by their joint Gaussian
    approximation, coefficients by elliptical slices around it (`bayou.engines.field`).

    Raises
    ------
    Unsupported
        By `run`, for structured effects with one dispersion per level (``sigma_by``).

    References
    ----------
    Hoff, A First Course in Bayesian Statistical Methods (2009), sec. 11.4. Gamerman, Statistics and
    Computing 7 (1997).

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> text = "proportion(favorable, patients) ~ treatment + (1 | clinic)"
    >>> fit = bayou.fit(text, clinic, family="binomial", engine=bayou.engines.Metropolis(draws=200), seed=1)
    >>> fit.draws()["sd_clinic[Intercept]"].shape
    (800,)
    """

    name: ClassVar[str] = "metropolis"
    proposal: Literal["laplace", "random_walk"] = "laplace"
    scale: float | Literal["adapted"] = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.proposal not in ("laplace", "random_walk"):
            raise Unsupported(f"proposal={self.proposal!r} is not known; use 'laplace' or 'random_walk'.")
        number = isinstance(self.scale, (int, float)) and not isinstance(self.scale, bool) and 0 < self.scale < np.inf
        if self.scale != "adapted" and not number:
            raise DataError(f"scale={self.scale!r}: give a positive number or 'adapted'.")

    def prepare(self, model: Model) -> Plan:
        """Lay the rows out by factor."""
        if model.design.structured:
            from bayou.engines.field.sampling import field_plan  # loaded for such models alone

            return field_plan(model)
        order, target = glmm_target(model, self.proposal == "laplace" or self.scale == "adapted")
        q = len_b(target.rows)
        B, m = target.blocks.A.shape
        S = len(target.sigma_rows) if model.family.dispersion is not None else 0

        def shape(draws: int, with_b: bool) -> Draws:
            P = len(target.border.linear)
            return Draws(
                np.empty((draws, P)), np.empty((draws, q if with_b else 0)), np.zeros((draws, B, m, m)),
                np.empty((draws, S)), {},
            )  # fmt: skip

        laplace = self.proposal == "laplace"
        walk = "adapted" if self.scale == "adapted" else f"scale {self.scale:g}"
        method = "Laplace proposals by group" if laplace else f"random walk by group, {walk}"
        names = [model.design.groupings[g].name for g in order]
        return Plan(
            new_chain=lambda rng: MetropolisChain(self, model, target, names, rng),
            shape=shape,
            coefficients=q,
            finish=lambda chains: contract(model, order, target.blocks, chains),
            messages=(),
            method=method,
        )


def len_b(rows: Rows) -> int:
    """Return how many group coefficients there are."""
    return int((rows.levels * rows.sizes).sum())


def glmm_target(model: Model, walk_tuned: bool = True) -> tuple[tuple[int, ...], Target]:
    """Bring a model into the form of the kernels."""
    design, working = model.design, model.working
    order = tuple(sorted(range(len(design.groupings)), key=lambda k: -len(design.groupings[k].levels)))
    blocks = tabulate(model.bound.blocks)
    position = {g: k for k, g in enumerate(order)}
    blocks = blocks._replace(grouping=np.array([position[int(g)] for g in blocks.grouping], dtype=np.int64))
    none = np.zeros(0, dtype=np.int64)
    moves = centring(model, order)
    laid = lay_out(model, order)
    levels = np.array([len(design.groupings[g].levels) for g in order], dtype=np.int64)
    target = Target(
        rows=laid.rows,
        border=Border(none, none, none, 0, working.precision, working.precision @ working.mean),
        blocks=blocks,
        sigma=laid.sigma,
        sigma_step=int(len(laid.sigma) > 1),
        sigma_rows=laid.sigma_rows + design.remainder.count,
        sigma_squares=design.remainder.squares,
        prior_weights=laid.weights,
        prior_step=laid.weights_step,
        dispersion_code=int(model.bound.dispersion_code),
        dispersion_parameters=np.asarray(model.bound.dispersion_parameters, dtype=np.float64),
        dispersion_known=model.family.dispersion is None or model.dispersion_known,
        walk_tuned=walk_tuned,
        curvature=working.curvature,
        beta_codes=working.codes,
        beta_parameters=working.parameters,
        moves=moves,
        lineages=lineages(moves, blocks, levels),
    )
    return order, target


class MetropolisChain:
    """One chain."""

    def __init__(
        self, engine: Metropolis, model: Model, target: Target, names: list[str], rng: np.random.Generator
    ) -> None:
        self.target, self.rng, self.names = target, rng, names
        self.laplace = engine.proposal == "laplace"
        self.adapting = True
        scale = 0.5 if isinstance(engine.scale, str) else float(engine.scale)
        self.state = new_state(model, target, scale, float(np.exp(0.5 * rng.standard_normal())))
        self.packed = packed(target), packed(self.state)
        self.fitting = Fitting(target, self.state.carrier)
        for beta in starting_effects(model, rng):
            self.state.beta[:] = beta
            self.state.b[:] = 0.0
            if self._climb():
                break
        else:
            raise Unsupported(no_start(model))

    def _climb(self) -> bool:
        """Find the mode of the fixed effects without groups, then go near that of all coefficients, covariances held.

        Newton steps are taken where they go uphill, long or short. False if the log likelihood is not finite.
        """
        return self._to_mode(groups=False) and self._to_mode(groups=True)

    def _to_mode(self, groups: bool) -> bool:
        none, factors = np.empty((0, 0)), np.empty((0, 0, 0, 0))
        coefficients = self.state.beta, self.state.b
        everything = 1 + (int(self.target.rows.levels.sum()) if groups else 0)
        for _ in range(ROUNDS):
            before = np.concatenate(coefficients)
            length, done = 1.0, 0
            while length > SHORTEST and done < everything:
                done = scan.run_scans(*self.packed, groups, True, False, 1, length, none, none, factors, none, self.rng)
                if done < 0:
                    return False
                length *= 0.25
            if np.allclose(before, np.concatenate(coefficients), rtol=1e-9, atol=1e-12):
                break
        return True

    def boundary(self, scan: int) -> int:
        """Return the next fit of the approximation; step lengths are tuned at every scan, inside the kernels."""
        return next_boundary(scan)

    def adapt(self, scan: int, warmup: int) -> None:
        """Fit the approximation; at the end of the warm-up freeze the steps and start counting acceptance."""
        if self.fitting.fit():
            self._anchor()
        if scan >= warmup:
            self.adapting = False
            self.fitting.freeze()
            self.state.accepted[:] = 0.0
            self.state.tries[:] = 0.0

    def _anchor(self) -> None:
        """Set the anchors to the means of the coefficients since the last time.

        Not to their modes: a group of zeros has its mode at the edge of what the data allow, where the curvature
        says nothing of how far down it reaches.
        """
        carrier = self.state.carrier
        carrier.anchor[:] = carrier.sum / carrier.scans[0]
        carrier.sum[:] = 0.0
        carrier.scans[0] = 0

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin scans."""
        # what Hoff's sampler does, and no more
        plain = not self.laplace
        done = scan.run_scans(
            *self.packed, self.laplace, plain, self.adapting, thin, 0.0,
            out.beta, out.b, out.L, out.dispersion, self.rng,
        )  # fmt: skip
        if self.adapting and not plain:
            self.fitting.see(out)
        return int(done)

    def group_statistics(self) -> dict[str, Array]:
        """Return acceptance rates by level of each factor."""
        out, at = {}, 0
        for f, name in enumerate(self.names):
            J = int(self.target.rows.levels[f])
            out[f"acceptance_{name}"] = self.state.accepted[at : at + J] / max(self.state.tries[f], 1.0)
            at += J
        return out

    def snapshot(self) -> dict[str, Array]:
        """Return all that a scan starts from; eta and the kept log likelihoods too, as they carry their rounding."""
        fitting, carrier = self.fitting, snapshot_of(self.state.carrier, APPROXIMATION)
        return {
            **snapshot_of(self.state, CARRIED),
            **{f"carrier/{k}": v for k, v in carrier.items()},
            "adapting": np.array([float(self.adapting)]),
            "seen": np.concatenate([fitting.before[:0], *fitting.seen]),
            "before": fitting.before,
        }

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up the state of a `snapshot`."""
        self.adapting = bool(snapshot["adapting"][0])
        self.fitting.seen, self.fitting.before = [snapshot["seen"]], snapshot["before"]
        restore_into(self.state, {name: snapshot[name] for name in CARRIED})
        restore_into(self.state.carrier, {name: snapshot[f"carrier/{name}"] for name in APPROXIMATION})


def new_state(model: Model, target: Target, scale: float, spread: float) -> State:
    """Allocate one chain: coefficients at zero, covariances ``spread`` times their usual start."""
    rows = target.rows
    n, P = rows.y.shape[1], len(target.border.linear)
    files = None if model.design.reduced is None else model.design.reduced.files
    B, block = target.blocks.A.shape
    p = max([1, block, *rows.sizes])  # a factor of several blocks is wider than its widest block
    K = max(len(rows.levels), 1)
    total = int(rows.levels.sum())
    largest = int(np.diff(rows.start).max()) if total else 0
    m = max(P, p * (p + 1) // 2, len(target.moves.at), 1)
    batch = max(LANES, largest)
    few = files if batch > LARGE else None  # a level of very many rows: the batch is as large as it
    scratch = Scratch(
        eta=row_array(files if K > 1 else few, (max(n, batch) if K > 1 else batch,)),
        gradient=row_array(few, (batch,)),
        curvature=row_array(few, (batch,)),
        value=row_array(few, (batch,)),
        here=row_array(few, (batch,)),
        weighted=row_array(few, (batch,)),
        columns=np.zeros(max(P, 1) * LANES),
        step=np.zeros(LANES * p),
        diagonal=np.zeros(LANES * p),
        ratio=np.zeros(LANES),
        work=np.zeros(LANES),
        H=np.zeros((p, p)),
        vectors=np.zeros((2, p)),
    )
    sigma = starting_scale(model, 1.0)
    if model.family.dispersion is None:
        dispersion = np.zeros(0)
    elif is_gaussian(rows.code):
        dispersion = sigma
    else:
        dispersion = 1.0 / sigma**2
    return State(
        beta=np.zeros(P),
        b=np.zeros(len_b(rows)),
        eta=row_array(files, (n,)),
        L=starting_factors(model, target.blocks, spread),
        Q=np.zeros((K, p, p)),
        Sigma=np.zeros((K, p, p)),
        dispersion=dispersion,
        weights=row_array(files, rows.y.shape) if is_gaussian(rows.code) else target.prior_weights,
        likelihood=np.full(total, np.nan),
        total=np.zeros(1),
        tune=np.full((B, block + 1), -1.0),
        walk=np.full(K, np.log(scale)),
        step=np.full(1, -1.0),
        accepted=np.zeros(total),
        tries=np.zeros(K),
        scratch=scratch,
        Hx=np.zeros((P, P)),
        vectors=np.zeros((5, m)),
        work=np.zeros((7, m, m)),
        counter=np.zeros(1, dtype=np.int64),
        sums=np.zeros(int(rows.levels.max()) if len(rows.levels) else 0),
        messages=np.zeros((2, int(rows.levels[target.lineages.factor].sum()))),
        carrier=new_carrier(target, p, batch),
    )

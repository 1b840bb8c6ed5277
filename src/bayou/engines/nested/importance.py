"""Importance sampling of the hyperparameters and of all coefficients, around what the nodes found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.field import Field, GaussianField
from bayou.engines.nested.design import snake
from bayou.engines.nested.explore import Mode
from bayou.engines.nested.grouped import suitable
from bayou.engines.nested.height import height
from bayou.engines.nested.likelihood import Rows
from bayou.engines.nested.proposal import propose
from bayou.engines.nested.survey import Nodes, over, relaxed

__all__ = ["Particles", "Unit", "particles", "sizes", "terms"]

THETAS = 128, 128, 256, 560  # by the number of hyperparameters, from one on
EASY = 4000  # rows and coefficients up to which the full number of thetas is drawn
PAIRS, MOST_PAIRS = (8, 16), 64  # antithetic pairs of coefficients for each theta: with one, with more of them
GROUPED_PAIRS = 1  # where the groups are integrated one by one
PILOT = 128  # pairs that measure at the mode how many it takes
NOISE, LESS_NOISE = 0.1, 0.015  # variance of an estimate of p(y | theta), relative to its square; of a large model
SETTLED = 1e-4  # how exact the modes of proposals are, in twice the log density
NEAR = 0.7  # grid steps over which forces are averaged
BLOCK = 2_000_000  # numbers that are held at a time


@dataclass(frozen=True, eq=False)
class Unit:
    """The coefficients that are followed, standardised: the N of the field, then the P fixed effects as printed.

    Attributes
    ----------
    centre, scale
        (N + P,).
    fixed
        Where the working fixed effects stand.
    to_printed
        (P, P).
    theta
        (d,) the mode of the hyperparameters.
    """

    centre: Array
    scale: Array
    fixed: slice
    to_printed: Array
    theta: Array

    def extended(self, X: Array) -> Array:
        """Return coefficients (…, N) with the fixed effects as printed behind them, (…, N + P)."""
        return np.concatenate([X, X[..., self.fixed] @ self.to_printed.T], axis=-1)

    def standardised(self, X: Array) -> Array:
        """Return coefficients (…, N), extended, in units of their posterior."""
        return np.asarray((self.extended(X) - self.centre) / self.scale)


@dataclass(frozen=True, eq=False)
class Particles:
    """Hyperparameters drawn around the mode, and what coefficients drawn at each of them say.

    Attributes
    ----------
    thetas
        (M, d).
    log_laplace
        (M,) log p(y | theta) + log p(theta) by Laplace, less the log density of the proposal.
    log_ratios
        (M, S) log weights of the coefficients: the mean of their exponentials is p(y | theta) over Laplace's value.
    plain, weighted
        (M, 3, N + P) means over the S draws of powers 1 to 3 of the standardised coefficients, as drawn and weighted.
    """

    thetas: Array
    log_laplace: Array
    log_ratios: Array
    plain: Array
    weighted: Array

    def joined(self, other: Particles) -> Particles:
        """Return these and others, drawn from another density, together; each keeps the weights that it has."""
        names = ("thetas", "log_laplace", "log_ratios", "plain", "weighted")
        return Particles(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    @property
    def log_estimates(self) -> Array:
        """(M,) logs of the unbiased estimates of p(y | theta) over Laplace's value."""
        return _log_mean(self.log_ratios)

    @property
    def log_weights(self) -> Array:
        """(M,) log weights of the hyperparameters."""
        return self.log_laplace + self.log_estimates

    @property
    def joint_log_weights(self) -> Array:
        """(M S,) log weights of the pairs of hyperparameters and coefficients."""
        return np.asarray((self.log_laplace[:, None] + self.log_ratios).ravel())


def _log_mean(values: Array) -> Array:
    top = values.max(axis=1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(safe + np.log(np.exp(values - safe[:, None]).mean(axis=1)))


class Shifted:
    """The Gaussian at one theta with its mean moved by Sigma s, and exact log weights of draws from it.

    Where it is exact for all coefficients there is nothing to move, and the weights are equal.
    """

    def __init__(self, field: Field, force: Array, exact: bool = False) -> None:
        self.field = field
        self.slope = np.zeros_like(field.x) if exact else force
        self.move = self.slope if exact else field.solve(self.slope)
        self.half = 0.5 * float(self.move @ self.slope)
        self.exact = exact

    def draw(self, Z: Array) -> tuple[Array, Array]:
        """Return antithetic pairs of coefficients (2 S, N) from normals Z (S, dimension), and log weights (2 S,).

        The weights' mean is p(y | theta) over Laplace's value of it. Moving the mean by d = Sigma s multiplies the
        Gaussian's density by exp(s'(x − mode) − ½ d's).
        """
        field = self.field
        D = field.transform(Z) - field.x
        D = np.concatenate([D, -D]) + self.move
        X = field.x + D
        if self.exact:
            return X, np.zeros(len(X))
        return X, field.log_ratio(X) - field.value() - D @ self.slope + self.half


def terms(d: int) -> int:
    """Return how many coefficients a parabola in d dimensions has."""
    return 1 + d + d * (d + 1) // 2


def model_size(field: GaussianField) -> int:
    """Return rows and coefficients together."""
    return field.model.design.n + field.count


def by_groups(field: GaussianField, rows: Rows) -> bool:
    """Return whether the groups of a model are integrated one by one: of those that are large, or elsewhere."""
    if field.divided:
        return True
    return not rows.gaussian and model_size(field) > EASY and suitable(field.model)


def sizes(
    field: GaussianField, mode: Mode, nodes: Nodes, rows: Rows, rng: np.random.Generator
) -> tuple[int, int]:
    """Return how many hyperparameters to draw, and how many pairs of coefficients for each.

    The first follows from the size of the model, the second from the weights at the mode: neither depends on the
    machine. The field must be placed at the mode.
    """
    work = model_size(field)
    thetas = THETAS[min(max(field.size, 1), len(THETAS)) - 1]
    if work > EASY:
        # enough for a parabola
        least = 16 + 2 * terms(field.size)
        thetas = max(least, int(thetas * (EASY / work) ** 1.5))
    if rows.gaussian:
        return thetas, 1
    if by_groups(field, rows):
        return thetas, GROUPED_PAIRS
    assert isinstance(field, Field)
    force = Forces(mode, nodes).at(np.zeros((1, field.size)))[0]
    _, logs = Shifted(field, force).draw(rng.standard_normal((PILOT, field.dimension)))
    w = np.exp(logs - logs.max())
    pairs = w[:PILOT] + w[PILOT:]
    variance = float(pairs.var() / max(pairs.mean() ** 2, 1e-300))
    wanted = variance / (NOISE if work <= EASY else LESS_NOISE) if np.isfinite(variance) else MOST_PAIRS
    return thetas, int(2 ** np.ceil(np.log2(min(max(wanted, PAIRS[field.size > 1]), MOST_PAIRS))))


class Forces:
    """The forces that move the means of the nodes, averaged over those that are near."""

    def __init__(self, mode: Mode, nodes: Nodes) -> None:
        self.mode = mode
        self.centres, self.forces = relaxed(nodes.stacked("z")), nodes.stacked("force")

    def at(self, z: Array) -> Array:
        """Return the force (M, N) at coordinates z (M, d)."""
        squares = np.square(relaxed(z)[:, None] - self.centres).sum(axis=2) / NEAR**2
        weight = np.exp(-0.5 * (squares - squares.min(axis=1, keepdims=True)))
        return np.asarray((weight / weight.sum(axis=1, keepdims=True)) @ self.forces)


def _sds(field: GaussianField) -> dict[int, list[int]]:
    """Return which hyperparameters are logarithms of sds, and which others mean nothing where that sd is zero."""
    found: dict[int, list[int]] = {}
    for part in field.parts:
        roles = [h.role for h in part.effect.hyperparameters]
        others = [part.first + k for k, role in enumerate(roles) if role != "sd"]
        found |= {part.first + k: others for k, role in enumerate(roles) if role == "sd"}
    return found


def particles(
    field: GaussianField,
    mode: Mode,
    nodes: Nodes,
    unit: Unit,
    rows: Rows,
    count: tuple[int, int],
    rng: np.random.Generator,
    cores: int,
) -> Particles:
    """Draw hyperparameters from an overdispersed density and antithetic pairs of coefficients from Gaussians at each.

    The means of these are moved as at the nearest nodes: the variational correction takes most of the skewness out of
    the weights.

    Parameters
    ----------
    field
        Left somewhere among the draws, or (for large models) where it was.
    unit
        In which the coefficients are followed.
    rows
        Where their Gaussian is exact the weights of the coefficients are equal.
    count
        Of hyperparameters, and of pairs of coefficients for each.
    """
    M, pairs = count
    z, log_proposal = propose(mode, nodes, M, rng, _sds(field))
    order: Integers = snake(relaxed(z), 0.5)
    z, log_proposal = z[order], log_proposal[order]
    thetas = mode.at(z)
    forces = Forces(mode, nodes)
    block = int(max(1, min(M, BLOCK // (2 * pairs * len(unit.centre)))))
    seeds = rng.integers(2**63, size=-(-M // block))

    work: Any = _by_groups if by_groups(field, rows) else _as_a_whole

    def of_block(own: GaussianField, b: int) -> tuple[Array, Array, Array, Array]:
        some = slice(b * block, (b + 1) * block)
        draw = np.random.default_rng(int(seeds[b]))
        before, own.settled = own.settled, SETTLED
        own.chords = model_size(own) > EASY
        out: tuple[Array, Array, Array, Array] = work(own, thetas[some], forces.at(z[some]), pairs, unit, draw, rows)
        own.settled, own.chords = before, False
        return out

    parts = over(field, list(range(len(seeds))), of_block, cores, 1)
    heights, ratios, plain, weighted = (np.concatenate([p[k] for p in parts]) for k in range(4))
    ratios = np.zeros_like(ratios) if rows.gaussian else np.where(np.isnan(ratios), -np.inf, ratios)
    return Particles(thetas, heights - log_proposal, ratios, plain, weighted)


def _as_a_whole(
    field: Field, thetas: Array, forces: Array, pairs: int, unit: Unit, rng: np.random.Generator, rows: Rows
) -> tuple[Array, Array, Array, Array]:
    """Return heights (B,), log ratios (B, 2 pairs) and moments (B, 3, W) of draws of all coefficients at once."""
    Z = rng.standard_normal((len(thetas), pairs, field.dimension))
    heights, ratios = np.full(len(Z), -np.inf), np.zeros((len(Z), 2 * pairs))
    X = np.zeros((len(Z), 2 * pairs, field.count))
    for i, theta in enumerate(thetas):
        heights[i] = height(field, theta)
        if np.isfinite(heights[i]):
            X[i], ratios[i] = Shifted(field, forces[i], rows.gaussian).draw(Z[i])
    return heights, ratios, *_moments(unit.standardised(X), ratios)


def _by_groups(
    field: GaussianField,
    thetas: Array,
    forces: Array,
    pairs: int,
    unit: Unit,
    rng: np.random.Generator,
    rows: Rows,
) -> tuple[Array, Array, Array, Array]:
    """Return the same with the groups integrated by quadrature: draws of the fixed effects alone.

    The moments of the groups' coefficients are those of the moved Gaussian, and so are, but for what the weights
    change, those of the fixed effects.
    """
    where = unit.fixed
    P = where.stop - where.start
    Z = rng.standard_normal((len(thetas), pairs, P))
    heights, ratios = np.full(len(Z), -np.inf), np.zeros((len(Z), 2 * pairs))
    plain, weighted = np.zeros((len(Z), 3, len(unit.centre))), np.zeros((len(Z), 3, len(unit.centre)))
    groups = rows.groups()
    field.place(unit.theta)
    groups.measure(field, unit.theta)
    N = field.count
    fixed = [*range(where.start, where.stop), *range(N, N + P)]
    for i, theta in enumerate(thetas):
        heights[i] = height(field, theta)
        if not np.isfinite(heights[i]):
            continue
        mean = field.x + field.solve(forces[i])
        d = unit.standardised(mean)
        own = unit.to_printed @ field.fixed_covariance() @ unit.to_printed.T
        v = np.maximum(np.concatenate([field.variances(), np.diag(own)]), 0.0) / np.square(unit.scale)
        plain[i] = weighted[i] = d, v + d * d, 3.0 * d * v + d**3
        beta, ratios[i] = groups.log_weights(field, theta, mean[where], Z[i])
        drawn = np.concatenate([beta, beta @ unit.to_printed.T], axis=1)
        u = (drawn - unit.centre[fixed]) / unit.scale[fixed]
        # of a few draws only what the weights change
        before, after = (m[0] for m in _moments(u[None], ratios[i][None]))
        weighted[i][:, fixed] += after - before
    return heights, ratios, plain, weighted


def _moments(u: Array, ratios: Array) -> tuple[Array, Array]:
    """Return means (B, 3, W) of powers of u (B, S, W), plain and weighted by exp(ratios) (B, S)."""
    top = ratios.max(axis=1, keepdims=True)
    w = np.exp(ratios - np.where(np.isfinite(top), top, 0.0))
    total = w.sum(axis=1, keepdims=True)
    w = w / np.where(total > 0.0, total, 1.0)
    plain, weighted = np.empty((len(u), 3, u.shape[2])), np.empty((len(u), 3, u.shape[2]))
    power = np.ones_like(u)
    for p in range(3):
        power = power * u
        plain[:, p] = power.mean(axis=1)
        weighted[:, p] = np.einsum("bs,bsw->bw", w, power)
    return plain, weighted

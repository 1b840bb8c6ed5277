"""Models laid out for the uncompiled kernels, at random states; densities of scripted draws held to 1e-9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import oracle
from bayou.engines.gibbs import _own
from bayou.engines.metropolis import glmm_target, new_state
from bayou.model import Model
from gaussian_models import point_of, prepared, put
from oracle import Point
from proof.uncompiled import Script, UsedUp, load, turning_points

Array = np.ndarray
STATES = 100
KERNELS = load()
covariances, lmm_states, glmm_states = (
    KERNELS[f"engines.{n}"] for n in ("covariances", "lmm.state", "glmm.state")
)


def same(found: float, expected: float, size: float = 1.0) -> None:
    """Equal to 1e-9, relative to the largest of the numbers that were subtracted."""
    assert abs(found - expected) <= 1e-9 * max(1.0, abs(size), abs(expected)), f"{found} is not {expected}"


def spoil(*scratch: Array) -> None:
    """Have a kernel find nothing in its scratch that it could use: what is left there is another step's."""
    for values in scratch:
        if values.dtype.kind == "f":
            values.fill(np.nan)


class Desk:
    """A model laid out for the kernels, at a random state given random data."""

    def __init__(self, model: Model, rng: np.random.Generator) -> None:
        self.rng = rng
        self.here = oracle.draw_from_prior(model, rng)
        # the state is not that from which the data came
        self.model = oracle.clone(model, oracle.draw_response(model, oracle.draw_from_prior(model, rng), rng))
        self.sums, target, self.state = prepared(self.model)
        self.target = _own(target)
        self.reset()

    def reset(self) -> None:
        """Put the state back, and what follows from it."""
        state = self.state
        put(self.model, self.sums, self.target, state, self.here)
        assert covariances.precision_from_factors(self.target.blocks, self.state.L, self.state.Q, self.state.work[4:])
        self.w = lmm_states.likelihood_weight(self.target, self.state)
        spoil(state.work, state.vectors, state.sums)

    def point(self) -> Point:
        return point_of(self.model, self.sums, self.target, self.state)

    def joint(self, point: Point | None = None) -> float:
        return oracle.log_joint(self.model, self.point() if point is None else point)


class RowDesk:
    """The same for the Metropolis kernels, which see the rows."""

    def __init__(self, model: Model, rng: np.random.Generator) -> None:
        self.rng = rng
        self.here = oracle.draw_from_prior(model, rng)
        self.model = oracle.clone(model, oracle.draw_response(model, oracle.draw_from_prior(model, rng), rng))
        self.order, self.target = glmm_target(self.model)
        numbers = oracle.clone(self.model, np.arange(model.design.n, dtype=float))
        self.place = glmm_target(numbers)[1].rows.y[0].astype(int)  # the row that each row of the kernels is
        self.state = new_state(self.model, self.target, 0.5, 1.0)
        self.state.tune[:] = -0.3 * rng.random(self.state.tune.shape)
        self.reset()

    def reset(self) -> None:
        """Put the state back, and all that follows from it."""
        state, point = self.state, self.here
        if len(point.beta):
            state.beta[:] = np.linalg.solve(self.model.working.to_printed, point.beta)
        if self.order:
            state.b[:] = np.concatenate([point.b[g].ravel() for g in self.order])
        state.L[:] = 0.0
        for r, Sigma in enumerate(point.Sigma):
            state.L[r, : len(Sigma), : len(Sigma)] = np.linalg.cholesky(Sigma)
        if len(state.dispersion):
            state.dispersion[:] = point.dispersion
        if glmm_states.is_gaussian(self.target.rows.code):
            glmm_states.set_weights(self.target, state)
        assert glmm_states.set_covariances(self.target, state)
        glmm_states.set_eta(self.target, state)
        own = state.carrier
        spoil(*state.scratch, state.Hx, state.vectors, state.work, state.sums, state.messages)
        # shift is not among them: zero where fixed effects stay
        spoil(own.b, own.L, own.t, own.Q, own.vectors, own.step, own.diagonal, own.there, own.change, own.total)

    def point(self) -> Point:
        state, at, b = self.state, 0, {}
        for f, g in enumerate(self.order):
            J, p = int(self.target.rows.levels[f]), int(self.target.rows.sizes[f])
            b[g] = state.b[at : at + J * p].reshape(J, p).copy()
            at += J * p
        Sigma = [oracle.block_factor(self.target.blocks, r, state.L) for r in range(len(self.target.blocks.size))]
        dispersion = state.dispersion.copy() if len(state.dispersion) else np.ones(1)
        beta = self.model.working.to_printed @ state.beta
        return Point(beta, [b[g] for g in sorted(b)], Sigma, dispersion)

    def joint(self, point: Point | None = None) -> float:
        return oracle.log_joint(self.model, self.point() if point is None else point)

    def eta_is_kept(self) -> None:
        """The linear predictor that the chain keeps is that of its coefficients."""
        point = self.point()
        eta = oracle.linear_predictor(self.model, point.beta, point.b)[self.place]
        np.testing.assert_allclose(self.state.eta, eta, rtol=1e-9, atol=1e-9)


AnyDesk = Desk | RowDesk


def gaussian_blocks(desk: AnyDesk, run: Callable[[Script], Any], sizes: list[int], joint: Callable[[], float]) -> None:
    """Consecutive Gaussian draws of these many numbers each: every one from its full conditional.

    A draw is m + S z of standard normals z, so two of them differ in log density by minus half the difference of
    z'z. The script ends after the draw that is looked at; those before it are held.
    """
    before: list[float] = []
    for size in sizes:
        found = []
        for _ in range(2):
            z = desk.rng.standard_normal(size)
            desk.reset()
            try:
                run(Script([*before, *z]))
            except UsedUp:
                assert len(before) + size < sum(sizes)
            found.append((joint(), -0.5 * z @ z))
        same(found[0][0] - found[1][0], found[0][1] - found[1][1], found[0][0])
        before += list(z)


def dimension(desk: AnyDesk, run: Callable[[Script], Any], n: int) -> int:
    """How many directions the coefficients move in when each of n normals is changed."""
    places = []
    for z in (np.zeros(n), *np.eye(n)):
        desk.reset()
        run(Script(z))
        point = desk.point()
        places.append(np.concatenate([point.beta, *(b.ravel() for b in point.b)]))
    return int(np.linalg.matrix_rank(np.array(places[1:]) - places[0], tol=1e-9))


def log_gamma(shape: float, x: float) -> float:
    return (shape - 1.0) * np.log(x) - x


def check_conjugate_scale(
    desk: AnyDesk, run: Callable[[Script], Any], s_of: Callable[[Point], float], power: float = 3.0
) -> None:
    """s = sqrt(rate / gamma): its log density is that of gamma, plus log |d gamma / d s| = −3 log s, s²: −4 log s."""
    found = []
    for _ in range(2):
        desk.reset()
        value = desk.rng.gamma(5.0)
        script = Script(gammas=[value])
        try:
            run(script)
        except UsedUp:
            assert len(script.shapes) == 2  # another level's sigma comes after the first one
        point = desk.point()
        found.append((desk.joint(point), log_gamma(script.shapes[0], value) - power * np.log(s_of(point))))
    same(found[0][0] - found[1][0], found[0][1] - found[1][1], found[0][0])


def element(L: np.ndarray, e: int, x: float | None = None) -> tuple[np.ndarray, float, float]:
    """Element e of a factor in the coordinate that is sliced (the diagonal on the log scale), and its width.

    With ``x`` a copy of the factor in which the element has that value.
    """
    i, k = [(i, k) for i in range(len(L)) for k in range(i + 1)][e]
    new = L.copy()
    if x is not None:
        new[i, k] = np.exp(x) if i == k else x
    return new, float(np.log(new[i, k]) if i == k else new[i, k]), 1.0 if i == k else float(np.linalg.norm(L[i]))


def log_jacobian(L: np.ndarray, e: int) -> float:
    """log |d Sigma / d L| = Σ (p − i) log L_ii up to a constant, and log L_ii more if its logarithm is the number."""
    p = len(L)
    total = float(((p - np.arange(p)) * np.log(np.diag(L))).sum())
    diagonal = {0: 0, 2: 1, 5: 2}
    return total + (float(np.log(L[diagonal[e], diagonal[e]])) if e in diagonal else 0.0)


def log_gaussian(x: Array, mean: Array, H: Array) -> float:
    e = x - mean
    return float(0.5 * np.linalg.slogdet(H)[1] - 0.5 * e @ H @ e)


def newton(
    model: Model, point: Point, A: Array, rows: Array, precision: Array, mean: Array, x: Array, ridge: Any = 0.0
) -> Any:
    """One Newton step of the coefficients x of the columns A in these rows, prior N(mean, precision⁻¹).

    A ``ridge`` is added to the diagonal of the precision only: it makes steps shorter, not the target another one.
    """
    design = model.design
    eta = oracle.linear_predictor(model, point.beta, point.b)
    scale = oracle.row_scale(model, point.dispersion)
    arguments = design.y, eta, scale, design.trials, design.weights
    gradient, curvature = model.family.gradient(*arguments)[rows], model.family.curvature(*arguments)[rows]
    H = (A.T * np.maximum(curvature, 0.0)) @ A + precision + np.diag(ridge + np.zeros(len(x)))
    return x + np.linalg.solve(H, A.T @ gradient + precision @ (mean - x)), H


def decide(
    desk: RowDesk, run: Callable[[float], None], ratio: float, here: Array, new: Array, read: Callable[[], Array]
) -> None:
    """The kernel goes to ``new`` just above the turning point, and stays ``here`` just below it."""
    (just,), (just_not,) = turning_points([ratio], abs(desk.joint(desk.here)))
    for exponential, expected in ((just, new), (just_not, here)):
        desk.reset()
        run(exponential)
        np.testing.assert_allclose(read(), expected, rtol=1e-8, atol=1e-10)
        desk.eta_is_kept()


def with_state(model: Model, kind: type[Any], rng: np.random.Generator, proper: Model) -> Any:
    """A desk of a model whose prior may not be drawn from: the state and the data come from another one."""
    own = oracle.draw_from_prior

    def draw(_: Model, generator: np.random.Generator) -> Point:
        return own(proper, generator)

    oracle.draw_from_prior = draw
    try:
        return kind(model, rng)
    finally:
        oracle.draw_from_prior = own

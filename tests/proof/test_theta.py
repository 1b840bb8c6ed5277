"""Covariance moves of the Gibbs samplers that take coefficients along: whitened moves and the collapsed sampler.

Acceptance is asked at its turning point: with an exponential 1e-9 above minus the log ratio a proposal is accepted,
with one 1e-9 below it is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import oracle
from bayou.effects.iid import coordinates_from_factor, factor_from_coordinates
from bayou.engines.lmm.state import new_state
from bayou.linalg.schur import new_factor
from bayou.model import Model
from oracle import Point
from proof.desks import KERNELS, STATES, Desk, element, log_jacobian
from proof.models import PRIOR_KINDS, PRIORS, build
from proof.uncompiled import ACCEPT, Script, UsedUp, check_slice, turning_points

whitened, collapsed = KERNELS["engines.lmm.whitened"], KERNELS["engines.lmm.collapsed"]


def with_factor(model: Model, here: Point, r: int, L: np.ndarray) -> Point:
    """The point with covariance L L' in block r and the whitened coefficients of that block held."""
    block = model.bound.blocks[r]
    columns = list(block.columns)
    before = np.linalg.cholesky(here.Sigma[r])
    b = [values.copy() for values in here.b]
    b[block.grouping][:, columns] = np.linalg.solve(before, here.b[block.grouping][:, columns].T).T @ L.T
    Sigma = list(here.Sigma)
    Sigma[r] = L @ L.T
    return Point(here.beta, b, Sigma, here.dispersion)


def log_whitened(desk: Desk, r: int, L: np.ndarray, e: int = -1) -> float:
    """log density of the elements of L with the whitened coefficients held: d b = |L|^J d z, p(z) is constant."""
    new = with_factor(desk.model, desk.here, r, L)
    with np.errstate(divide="ignore"):
        return oracle.log_likelihood(desk.model, new) + oracle.log_prior(desk.model, new) + log_jacobian(L, e)


def move(desk: Desk, script: Script) -> Point:
    desk.reset()
    whitened.draw_whitened(desk.target, desk.state, desk.w, script)
    return desk.point()


@pytest.mark.parametrize("structure", ["slopes", "weights", "two sigmas", "measured"])
@pytest.mark.parametrize("kind", ["sds", "inverse Wishart", "Huang-Wand", "uniform sd"])
def test_whole_factors_proposed(kind: str, structure: str, rng: np.random.Generator) -> None:
    model = build(structure, "gaussian", PRIOR_KINDS.get(kind, PRIORS))
    decided = 0
    while decided < STATES // 2:
        desk = Desk(model, rng)
        L = np.linalg.cholesky(desk.here.Sigma[0])
        low = np.tril_indices(2)

        def proposed(z: np.ndarray, exponential: float = ACCEPT, desk: Desk = desk) -> Point:
            return move(desk, Script(z, [exponential], uniforms=[0.5]))

        # the proposal m + S z; factors whose diagonal is not positive are turned down unasked
        z = rng.standard_normal(3)
        after = np.linalg.cholesky(proposed(z).Sigma[0])
        tilts = [np.linalg.cholesky(proposed(z + 0.1 * unit).Sigma[0])[low] - after[low] for unit in np.eye(3)]
        if min(np.abs(after - L).max(), *(np.abs(tilt).max() for tilt in tilts)) < 1e-9:
            continue
        stays = [np.abs(after[low] + tilt - L[low]).max() < 1e-9 for tilt in tilts]
        if any(stays):
            continue
        back = z + np.linalg.solve(np.array(tilts).T / 0.1, L[low] - after[low])
        forward, reverse = -0.5 * z @ z, -0.5 * back @ back
        ratio = log_whitened(desk, 0, after) - log_whitened(desk, 0, L) + reverse - forward
        (just,), (just_not,) = turning_points([ratio], abs(reverse))
        expected = with_factor(desk.model, desk.here, 0, after)
        found = proposed(z, just)
        np.testing.assert_allclose(found.Sigma[0], expected.Sigma[0], rtol=1e-9)
        np.testing.assert_allclose(found.b[0], expected.b[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(proposed(z, just_not).Sigma[0], desk.here.Sigma[0], rtol=1e-9)
        decided += 1


# structure, block, element, slices of other blocks that come before, numbers that decide to slice
BLOCKS: list[tuple[str, int, int, int, list[float]]] = [
    ("slopes", 0, 0, 0, [0.05]),
    ("slopes", 0, 1, 0, [0.05]),
    ("slopes", 0, 2, 0, [0.05]),
    ("intercepts", 0, 0, 0, []),
    ("crossed", 1, 0, 3, [0.05]),
    ("two sigmas, crossed", 0, 0, 0, []),
    ("two sigmas, crossed", 1, 0, 1, []),
    ("nested", 0, 0, 0, []),
    ("nested", 1, 0, 1, []),
]


@pytest.mark.parametrize(("structure", "r", "e", "held", "before"), BLOCKS)
def test_factors_sliced(
    structure: str, r: int, e: int, held: int, before: list[float], rng: np.random.Generator
) -> None:
    model = build(structure)
    done = 0
    while done < STATES:
        desk = Desk(model, rng)
        L = np.linalg.cholesky(desk.here.Sigma[r])
        _, x, width = element(L, e)

        def log_density(x: float, desk: Desk = desk, L: np.ndarray = L) -> float:
            return log_whitened(desk, r, element(L, e, x)[0], e)

        def run(script: Script, desk: Desk = desk, p: int = len(L)) -> float:
            try:
                move(desk, script)
            except UsedUp as asked:
                if str(asked) != "exponential":  # of the next element or block: this one has been drawn
                    raise
            return element(desk.state.L[r, :p, :p], e)[1]

        # the sd of the slopes given the intercepts: the slow prior takes it from a correlation near one
        done += check_slice(run, log_density, x, width, rng, before, held + e, -9.0 if e == 2 else -np.inf)


# ---- the collapsed sampler ----------------------------------------------------------------------


def log_collapsed(model: Model, t: np.ndarray) -> float:
    """log p(theta | y) in the coordinates of the sampler, from an n x n covariance matrix of the response."""
    at, total, Sigma = 0, 0.0, []
    for block in model.bound.blocks:
        p = len(block.columns)
        L = np.zeros((p, p))
        total += factor_from_coordinates(t, at, p, L)
        if total == -np.inf:
            return total
        Sigma.append(np.tril(L) @ np.tril(L).T)
        at += p * (p + 1) // 2
    sigma = np.ones(len(model.design.sigma_levels)) if model.dispersion_known else np.exp(t[at:])
    nowhere = Point(model.bound.beta_mean, [], Sigma, sigma)
    beta = oracle.binding.log_density_beta(model.bound, model.bound.beta_mean)
    with np.errstate(divide="ignore"):
        prior = oracle.log_prior(model, nowhere) - beta
    return total + float(t[at:].sum()) + prior + oracle.log_marginal(model, Sigma, sigma)


@pytest.mark.parametrize("local", [False, True], ids=["independent", "local"])
@pytest.mark.parametrize("structure", ["slopes", "crossed", "nested", "two sigmas", "measured", "uncorrelated"])
def test_collapsed_proposals(structure: str, local: bool, rng: np.random.Generator) -> None:
    """Multivariate t with 5 degrees of freedom about a fixed centre, or a symmetric step."""
    model = build(structure)
    decided = 0
    while decided < STATES:
        desk = Desk(model, rng)
        parts = [coordinates_from_factor(np.linalg.cholesky(Sigma)) for Sigma in desk.here.Sigma]
        if not model.dispersion_known:
            parts.append(np.log(desk.here.dispersion))
        here = np.concatenate(parts)
        d = len(here)
        centre = here + 0.3 * rng.standard_normal(d)
        spread = np.tril(0.1 * rng.standard_normal((d, d)), -1) + np.diag(rng.uniform(0.1, 0.3, d))
        z, gamma, u = rng.standard_normal(d), float(rng.gamma(2.5)), float(rng.random())
        if local:
            new = here + 2.4 / np.sqrt(d) * np.exp(-4.0 * u) * spread @ z
        else:
            new = centre + np.sqrt(2.5 / gamma) * spread @ z
        with np.errstate(divide="ignore"):
            before, after = log_collapsed(desk.model, here), log_collapsed(desk.model, new)
        ratio = after - before
        if not local:
            of_proposal = stats.multivariate_t(centre, spread @ spread.T, df=5.0)
            ratio += float(of_proposal.logpdf(here) - of_proposal.logpdf(new))
        if not np.isfinite(ratio):
            continue

        def ended(
            exponential: float, desk: Desk = desk, here: np.ndarray = here, z: np.ndarray = z, given: Any = (centre, spread),
            uniforms: Any = ([0.05, u] if local else [0.5]), gamma: float = gamma,
        ) -> np.ndarray:  # fmt: skip
            desk.reset()
            other = new_state(desk.target, new_factor(desk.target.arrow), desk.state.L, desk.state.sigma)
            t = here.copy()
            value = collapsed.log_marginal(desk.target, desk.state, t)
            n = len(desk.state.rest) + desk.state.b.size
            B, m = desk.target.blocks.A.shape
            P, S = desk.target.border.precision.shape[0], len(desk.state.sigma)
            script = Script([*z, *np.zeros(n)], [exponential], [] if local else [gamma], uniforms)
            collapsed.run_collapsed(
                desk.target, desk.state, other, t, value, *given, 0.0, 1, np.empty((1, len(t))), np.empty((1, P)),
                np.empty((1, 0)), np.zeros((1, B, m, m)), np.empty((1, S)), np.empty(1), script,
            )  # fmt: skip
            return t

        (just,), (just_not,) = turning_points([ratio], abs(before))
        np.testing.assert_allclose(ended(just), new, rtol=1e-9)
        np.testing.assert_array_equal(ended(just_not), here)
        decided += 1

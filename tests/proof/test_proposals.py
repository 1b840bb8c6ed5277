"""Metropolis-within-Gibbs: every move against the joint log density and dense proposal densities, to 1e-9.

Kernels run as plain Python with scripted random numbers. A proposal is recomputed in NumPy, and so is its log ratio,
log p(new) − log p(old) + log q(old | new) − log q(new | old): with an exponential 1e-9 above minus that ratio the
kernel accepts, with one 1e-9 below it rejects. At 100 random states each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oracle
from bayou.model import Model
from oracle import Point
from proof.desks import (
    KERNELS,
    STATES,
    Array,
    RowDesk,
    check_conjugate_scale,
    decide,
    gaussian_blocks,
    log_gaussian,
    newton,
)
from proof.models import CONJUGATE_SIGMA, FAMILIES, PRIOR_KINDS, PRIORS, WEAK, build
from proof.uncompiled import ACCEPT, REJECT, Script, check_slice, turning_points

scan, population = KERNELS["engines.glmm.scan"], KERNELS["engines.glmm.population"]
WITH_DISPERSION = [name for name, family in FAMILIES.items() if family.dispersion in ("phi", "shape")]


# ---- coefficients of the groups -----------------------------------------------------------------


def with_level(point: Point, g: int, j: int, x: Array) -> Point:
    b = [values.copy() for values in point.b]
    b[g][j] = x
    return replace(point, b=b)


def check_levels(model: Model, laplace: bool, states: int, rng: np.random.Generator) -> None:
    for _ in range(states):
        desk = RowDesk(model, rng)
        here = desk.here
        g = desk.order[-1]  # factors before the last one are held
        grouping = model.design.groupings[g]
        J, p = here.b[g].shape
        sizes = [desk.here.b[k].shape for k in desk.order[:-1]]
        held = sum(levels for levels, _ in sizes)
        idle = [0.0] * sum(levels * size for levels, size in sizes)
        Sigma = oracle.covariance(model, g, here.Sigma)
        Q = np.linalg.inv(Sigma)
        z = rng.standard_normal((J, p))
        ratios, news = [], []
        for j in range(J):
            x, rows = here.b[g][j], grouping.codes == j
            if laplace:
                step = desk.model, here, grouping.Z[rows], rows, Q, np.zeros(p), x
                mean, H = newton(*step)
                new = mean + np.linalg.solve(np.linalg.cholesky(H).T, z[j])
                there = with_level(here, g, j, new)
                back, H_back = newton(desk.model, there, grouping.Z[rows], rows, Q, np.zeros(p), new)
                ratio = log_gaussian(x, back, H_back) - log_gaussian(new, mean, H)
            else:
                new = x + np.sqrt(0.5) * np.linalg.cholesky(Sigma) @ z[j]
                there, ratio = with_level(here, g, j, new), 0.0
            ratios.append(ratio + desk.joint(there) - desk.joint(here))
            news.append(new)
        just, just_not = turning_points(ratios, abs(desk.joint(here)))
        for exponentials, expected in ((just, np.array(news)), (just_not, here.b[g])):
            desk.reset()
            uniforms = [0.5] * len(desk.order) if laplace else []
            script = Script([*idle, *z.ravel()], [REJECT] * held + exponentials, uniforms=uniforms)
            scan.move_groups(desk.target, desk.state, laplace, False, 0.0, script)
            np.testing.assert_allclose(desk.point().b[g], expected, rtol=1e-8, atol=1e-10)
            desk.eta_is_kept()


@pytest.mark.parametrize("laplace", [True, False], ids=["laplace", "walk"])
@pytest.mark.parametrize("family", FAMILIES)
def test_levels_of_one_factor(family: str, laplace: bool, rng: np.random.Generator) -> None:
    check_levels(build("slopes", family, WEAK if family == "gaussian log" else None), laplace, STATES, rng)


@pytest.mark.parametrize("laplace", [True, False], ids=["laplace", "walk"])
@pytest.mark.parametrize(
    ("structure", "family"),
    [("crossed", "poisson"), ("nested", "binomial"), ("weights", "gaussian"), ("offset", "gamma")],
)
def test_levels_of_a_second_factor(structure: str, family: str, laplace: bool, rng: np.random.Generator) -> None:
    check_levels(build(structure, family), laplace, STATES // 2, rng)


# ---- fixed effects ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "any prior on beta"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_effects(family: str, kind: str, rng: np.random.Generator) -> None:
    priors = WEAK if family == "gaussian log" else PRIORS
    if kind != "normal":
        priors = {**priors, "beta[x]": PRIOR_KINDS[kind]["beta[x]"]}
    model = build("slopes", family, priors)
    working, bound = model.working, model.bound
    X, everywhere = model.design.X @ working.to_printed, np.ones(model.design.n, dtype=bool)
    precision = working.to_printed.T @ bound.beta_precision @ working.to_printed
    mean = np.linalg.solve(working.to_printed, bound.beta_mean)
    ridge = getattr(working, "curvature", 0.0)
    decided = 0
    while decided < STATES // 2:
        desk = RowDesk(model, rng)
        here = desk.here
        z = rng.standard_normal(X.shape[1])
        x = np.linalg.solve(working.to_printed, here.beta)
        try:
            centre, H = newton(desk.model, here, X, everywhere, precision, mean, x, ridge)
        except np.linalg.LinAlgError:  # a flat prior, and no row whose likelihood is concave
            continue
        # a Newton step with noise, or a step of the random walk
        uniforms = [0.5] if decided % 3 else [0.01, float(rng.uniform(0.1, 1.0))]
        if len(uniforms) == 2:
            centre, H = x, H / uniforms[1] ** 2
        new = centre + np.linalg.solve(np.linalg.cholesky(H).T, z)
        there = replace(here, beta=working.to_printed @ new)
        try:
            back, H_back = newton(desk.model, there, X, everywhere, precision, mean, new, ridge)
        except np.linalg.LinAlgError:
            continue
        if np.linalg.cond(H_back) > 1e12:  # one row outweighs all others: rounding decides whether it is definite
            continue
        if len(uniforms) == 2:
            back, H_back = new, H_back / uniforms[1] ** 2
        decided += 1
        ratio = desk.joint(there) - desk.joint(here) + log_gaussian(x, back, H_back) - log_gaussian(new, centre, H)

        def run(exponential: float, desk: RowDesk = desk, z: Array = z, uniforms: list[float] = uniforms) -> None:
            population.move_fixed(desk.target, desk.state, 0.0, Script(z, [exponential], uniforms=uniforms))

        decide(desk, run, ratio, here.beta, there.beta, lambda desk=desk: desk.point().beta)  # type: ignore[misc]


@pytest.mark.parametrize("structure", ["slopes", "crossed", "nested", "three levels", "group-level column"])
def test_translations(structure: str, rng: np.random.Generator) -> None:
    """Fixed effects and coarser factors with each group's own line held: Gaussian whatever the family."""
    model = build(structure, "poisson")
    for _ in range(STATES):
        desk = RowDesk(model, rng)
        sizes = [int(n) for n in np.diff(desk.target.moves.first) if n]
        sizes += [int(desk.target.rows.levels[g]) for g in desk.target.moves.parent]

        def run(script: Script, desk: RowDesk = desk) -> None:
            scan.move_translations(desk.target, desk.state, script)

        gaussian_blocks(desk, run, sizes, desk.joint)
        after = desk.point()
        before = oracle.linear_predictor(model, desk.here.beta, desk.here.b)
        np.testing.assert_allclose(oracle.linear_predictor(model, after.beta, after.b), before, atol=1e-9)


# ---- dispersion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", WITH_DISPERSION)
def test_dispersion(family: str, rng: np.random.Generator) -> None:
    """A step of log s, s = 1/sqrt(phi): the joint density is that of s."""
    model = build("slopes", family)
    for _ in range(STATES):
        desk = RowDesk(model, rng)
        desk.state.step[0] = -rng.random()
        here, z = desk.here, float(rng.standard_normal())
        s = 1.0 / np.sqrt(here.dispersion)
        s_new = s * np.exp(np.exp(desk.state.step[0]) * z)
        there = replace(here, dispersion=s_new**-2.0)
        with np.errstate(divide="ignore"):
            ratio = desk.joint(there) - desk.joint(here) + float(np.log(s_new / s)[0])

        def run(exponential: float, desk: RowDesk = desk, z: float = z) -> None:
            script = Script([z, 0.0], [exponential, REJECT])
            scan.move_dispersion(desk.target, desk.state, False, np.zeros(1), script)

        if np.isfinite(ratio):
            decide(desk, run, ratio, here.dispersion, there.dispersion, lambda desk=desk: desk.state.dispersion.copy())  # type: ignore[misc]
        else:
            desk.reset()
            run(ACCEPT)
            np.testing.assert_array_equal(desk.state.dispersion, here.dispersion)


@pytest.mark.parametrize("family", ["gaussian", "gaussian log"])
def test_residual_sd(family: str, rng: np.random.Generator) -> None:
    for priors in ({**PRIORS, "sigma2": CONJUGATE_SIGMA}, PRIORS):
        model = build("slopes", family, priors)
        for _ in range(STATES // 2):
            desk = RowDesk(model, rng)
            here = desk.here

            def run(script: Script, desk: RowDesk = desk) -> None:
                scan.move_dispersion(desk.target, desk.state, False, np.zeros(1), script)

            if priors is not PRIORS:
                check_conjugate_scale(desk, run, lambda point: float(point.dispersion[0]))
                continue

            def log_density(x: float, desk: RowDesk = desk, here: Point = here) -> float:
                with np.errstate(divide="ignore"):
                    return desk.joint(replace(here, dispersion=np.exp([x]))) + x

            def sliced(script: Script, desk: RowDesk = desk) -> float:
                desk.reset()
                scan.move_dispersion(desk.target, desk.state, False, np.zeros(1), script)
                return float(np.log(desk.state.dispersion[0]))

            check_slice(sliced, log_density, float(np.log(here.dispersion[0])), 1.0, rng)

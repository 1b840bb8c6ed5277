"""Crossed factors one at a time: exact draws, effective draws that do not fade as levels grow, and what may go wrong."""

import numpy as np
import pytest

import bayou
import oracle
from bayou.effects.iid import factor_from_coordinates
from bayou.engines import Gibbs
from bayou.engines.crossed.choice import joint_solver, lay_out_state
from bayou.engines.crossed.coefficients import sum_classes
from bayou.engines.crossed.layout import crossed
from bayou.engines.crossed.passes import cross_sums, remember
from bayou.engines.crossed.state import combine_levels
from bayou.engines.crossed.sweep import run_joint_sweeps, run_sweeps
from bayou.engines.crossed.theta import log_density
from bayou.packed import packed
from bayou.posterior.convergence import effective_size
from bayou.priors import Normal, StudentT
from gaussian_models import PRIORS, STRUCTURES, build

GROUPED = [name for name in STRUCTURES if "|" in STRUCTURES[name]["formula"]]
SIZES = {"draws": 4000, "warmup": 500, "chains": 2}


def ratings(n, J, K, seed=1, sds=(0.5, 0.4)):
    """Each rating falls on levels at random: missing completely at random."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, J, n), rng.integers(0, K, n)
    y = 1.0 + sds[0] * rng.normal(size=J)[g] + sds[1] * rng.normal(size=K)[h] + rng.normal(size=n)
    return {"y": y, "g": g, "h": h}


def neighbours(n, J, K, width, seed=1, sd=1.0):
    """Each level of g meets only those of h that are near it on a circle: a badly connected graph."""
    rng = np.random.default_rng(seed)
    u = rng.random(n)
    g, h = (u * J).astype(int), ((u + width * rng.random(n)) % 1.0 * K).astype(int)
    y = 1.0 + sd * rng.normal(size=J)[g] + sd * rng.normal(size=K)[h] + rng.normal(size=n)
    return {"y": y, "g": g, "h": h}


def laid_out(model, seed=2):
    """Sums, rows and a state at random covariances and residual sds."""
    target, rows = crossed(model)
    state = lay_out_state(model, target, 1.0)
    rng = np.random.default_rng(seed)
    for r, p in enumerate(target.blocks.size):
        A = rng.normal(size=(p, p + 2))
        state.L[r, :p, :p] = np.linalg.cholesky(A @ A.T / p)
    if not target.sigma_known:
        state.sigma[:] = rng.uniform(0.7, 1.3, len(state.sigma))
    return target, rows, state


def printed(model, rows, beta, b):
    """Draws (n, P) and (n, q) of the kernels as columns of `oracle.dense`: factors of the design, then beta."""
    working = model.working
    beta = beta.copy()
    if working.intercept is not None:
        beta[:, working.intercept] += rows.shift
    sizes = [len(model.design.groupings[g].levels) * model.design.groupings[g].Z.shape[1] for g in rows.order]
    parts = dict(zip(rows.order, np.split(b, np.cumsum(sizes)[:-1], axis=1), strict=True))
    return np.hstack([*(parts[g] for g in sorted(parts)), beta @ working.to_printed.T])


def exact(model, target, rows, state):
    """Mean and covariance of all coefficients at the state's covariances, from dense matrices."""
    Sigma = [state.L[r, :p, :p] @ state.L[r, :p, :p].T for r, p in enumerate(target.blocks.size)]
    A = oracle.dense(model)
    mean, precision = oracle.prior_of_coefficients(model, Sigma)
    weights = oracle.row_precision(model, state.sigma)
    H = (A.T * weights) @ A + precision
    right = A.T @ (weights * (model.design.y - model.design.offset)) + precision @ mean
    covariance = np.linalg.inv(H)
    return covariance @ right, covariance


def room(target, draws):
    B, m = target.blocks.A.shape
    q, P, S = int(target.at_b[-1]), len(target.linear), len(target.rows)
    return np.empty((draws, P)), np.empty((draws, q)), np.empty((draws, B, m, m)), np.empty((draws, S))


# ---- exactness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", GROUPED)
def test_without_noise_sweeps_end_at_the_mean(structure):
    model = build(structure)
    target, rows, state = laid_out(model)
    out = room(target, 1)
    handed = packed(target), packed(state)
    assert run_sweeps(*handed, rows.codes, True, 0.0, 3000, *out, np.random.default_rng(1)) == 1
    mean, _ = exact(model, target, rows, state)
    np.testing.assert_allclose(printed(model, rows, out[0], out[1])[0], mean, atol=1e-8)


@pytest.mark.parametrize("joint", [False, True], ids=["crossed", "joint"])
@pytest.mark.parametrize("structure", GROUPED)
def test_draws_have_the_exact_mean_and_covariance(structure, joint):
    """Covariances held: every mean, variance and covariance within Monte Carlo error of dense matrices."""
    model = build(structure)
    target, rows, state = laid_out(model)
    draws, thin = 20_000, 1 if joint else 3
    out, rng = room(target, draws), np.random.default_rng(3)
    handed = packed(target), packed(state)
    if joint:
        solver = packed(joint_solver(model, target, rows))
        assert run_joint_sweeps(*handed, solver, rows.codes, True, thin, *out, rng) == draws
    else:
        assert run_sweeps(*handed, rows.codes, True, 1.0, thin, *out, rng) == draws
    mean, covariance = exact(model, target, rows, state)
    sd = np.sqrt(np.diag(covariance))
    z = (printed(model, rows, out[0], out[1])[100:] - mean) / sd
    size = effective_size(z.T[:, None, :])
    assert (np.abs(z.mean(axis=0)) * np.sqrt(size)).max() < 4.5
    correlation = covariance / np.outer(sd, sd)
    found = z.T @ z / len(z)
    # a product of two standard normals has variance 1 + rho²; sweeps that remember make the error larger
    error = np.sqrt((1.0 + correlation**2) / min(size.min(), len(z)))
    assert np.abs((found - correlation) / error).max() < 4.5


@pytest.mark.parametrize("structure", GROUPED)
def test_the_density_of_one_factors_covariance(structure):
    """Against the dense density of y less the other factors, of which one factor and beta are integrated out."""
    model = build(structure)
    target, rows, state = laid_out(model)
    own = target.sigma_known or len(state.sigma) > 1
    rng = np.random.default_rng(5)
    state.b[:] = rng.normal(size=len(state.b))
    handed = packed(target), packed(state)
    for k, g in enumerate(rows.order):
        found, expected = [], []
        numbers = [
            int(p * (p + 1) // 2) for p, f in zip(target.blocks.size, target.blocks.grouping, strict=True) if f == k
        ]
        for trial in range(3):
            x = np.append(0.5 + rng.random(sum(numbers)), 0.3 * rng.normal())
            if trial == 0:
                x = np.append(0.9 * np.ones(sum(numbers)), 0.1)
            x = x[: len(x) - own]
            combine_levels(*handed)
            for f in range(len(rows.order)):
                remember(*handed, f)
            others = sum(state.seen[f] for f in range(len(rows.order)) if f != k)
            quadratic = target.squares[0] - 2.0 * others + cross_sums(*handed, rows.codes, k)
            sum_classes(*handed, k)
            found.append(log_density(*handed, k, x, quadratic))
            expected.append(_dense_density(model, target, rows, state, k, g, x, own))
        np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-7, atol=1e-7)


def _dense_density(model, target, rows, state, k, g, x, own):
    """log p(y − others | theta) p(theta) of factor k, written from dense matrices; the state stands at theta."""
    design = model.design
    b = printed(model, rows, np.zeros((1, len(target.linear))), state.b[None])[0][: len(state.b)]
    at = np.cumsum([0, *(len(f.levels) * f.Z.shape[1] for f in design.groupings)])
    A = oracle.dense(model)
    e = design.y - design.offset
    for f in range(len(design.groupings)):
        if f != g:
            e = e - A[:, at[f] : at[f + 1]] @ b[at[f] : at[f + 1]]
    Sigma = [state.L[r, :p, :p] @ state.L[r, :p, :p].T for r, p in enumerate(target.blocks.size)]
    mean, precision = oracle.prior_of_coefficients(model, Sigma)
    mine = [*range(at[g], at[g + 1]), *range(at[-1], A.shape[1])]
    V = np.diag(1.0 / oracle.row_precision(model, state.sigma))
    V += A[:, mine] @ np.linalg.inv(precision[np.ix_(mine, mine)]) @ A[:, mine].T
    e = e - A[:, mine] @ mean[mine]
    total = -0.5 * np.linalg.slogdet(V)[1] - 0.5 * e @ np.linalg.solve(V, e)
    first = 0
    L = np.zeros((4, 4))
    for r in np.flatnonzero(target.blocks.grouping == k):
        p = int(target.blocks.size[r])
        total += factor_from_coordinates(x, first, p, L)
        total += oracle.log_density_block(model.bound.blocks[r], Sigma[r])
        first += p * (p + 1) // 2
    if not own:
        total += x[first] + float(np.sum(oracle.binding.log_density_dispersion(model.bound, state.sigma)))
    return total


def test_how_far_a_solve_may_stop_from_the_exact_draw():
    """The same noise solved to 1e-5 and to 1e-11: no coefficient differs by 1e-5 of its sd."""
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", neighbours(3000, 300, 280, 0.01))
    target, rows, state = laid_out(model)
    found = []
    for tolerance in (1e-5, 1e-11):
        mine = state._replace(b=state.b.copy(), beta=state.beta.copy())
        solver = joint_solver(model, target, rows)._replace(tolerance=tolerance)
        out = room(target, 1)
        handed = packed(target), packed(mine), packed(solver)
        assert run_joint_sweeps(*handed, rows.codes, True, 1, *out, np.random.default_rng(2)) == 1
        found.append(printed(model, rows, out[0], out[1])[0])
    _, covariance = exact(model, target, rows, state)
    sd = np.sqrt(np.diag(covariance))
    assert 0.0 < np.abs((found[0] - found[1]) / sd).max() < 1e-5


# ---- agreement with the sampler on a dense matrix -----------------------------------------------


@pytest.mark.parametrize(
    ("formula", "settings"),
    [
        ("y ~ x + (1 | g) + (1 | h)", {}),
        ("y ~ x + (x | g) + (1 | h)", {"weights": "w"}),
        ("y ~ x + (1 | g) + (1 | h) + (1 | f)", {"sigma_by": "s"}),
    ],
)
@pytest.mark.parametrize("parameterization", ["crossed", "joint"])
def test_agrees_with_the_blocked_sampler(formula, settings, parameterization):
    rng = np.random.default_rng(8)
    data = ratings(1500, 60, 25)
    n = len(data["y"])
    data |= {"x": rng.normal(size=n), "w": rng.uniform(0.5, 2.0, n), "s": np.array(["a", "b"])[np.arange(n) % 2]}
    data["f"] = rng.integers(0, 8, n)
    model = bayou.Model(formula, data, **settings)
    one = model.fit(Gibbs(parameterization=parameterization, **SIZES), seed=1).summary(groups=True)
    two = model.fit(Gibbs(parameterization="blocked", **SIZES), seed=2).summary(groups=True)
    error = np.hypot(one["sd"] / np.sqrt(one["ess_bulk"]), two["sd"] / np.sqrt(two["ess_bulk"]))
    assert (np.abs(one["mean"] - two["mean"]) / error).max() < 4.5
    assert np.abs(np.log(one["sd"] / two["sd"])).max() < 0.15


def test_awkward_priors_of_fixed_effects():
    priors = {**PRIORS, "beta[x]": StudentT(3, 0.5, 0.2), "beta[Intercept]": Normal(0, 2)}
    model = build("crossed", priors)
    one = model.fit(Gibbs(parameterization="crossed", **SIZES), seed=1).summary()
    two = model.fit(Gibbs(parameterization="blocked", **SIZES), seed=2).summary()
    error = np.hypot(one["sd"] / np.sqrt(one["ess_bulk"]), two["sd"] / np.sqrt(two["ess_bulk"]))
    assert (np.abs(one["mean"] - two["mean"]) / error).max() < 4.5

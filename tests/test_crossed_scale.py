"""Crossed factors one at a time: exact draws, effective draws that do not fade as levels grow, and what may go wrong."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bayou
import oracle
from bayou.design.reduced import Reduced, Remainder
from bayou.effects.iid import factor_from_coordinates
from bayou.engines import Gibbs
from bayou.engines.crossed.chain import crossed_plan
from bayou.engines.crossed.choice import contraction, joint_solver, lay_out_state
from bayou.engines.crossed.coefficients import sum_classes
from bayou.engines.crossed.layout import crossed
from bayou.engines.crossed.passes import cross_sums, remember
from bayou.engines.crossed.state import combine_levels
from bayou.engines.crossed.sweep import run_joint_sweeps, run_sweeps
from bayou.engines.crossed.theta import log_density
from bayou.packed import packed
from bayou.posterior.convergence import effective_size
from bayou.priors import HalfNormal, HalfT, Normal, StudentT
from gaussian_models import PRIORS, STRUCTURES, build

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import crossed_scale as scale

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


# ---- effective draws as levels grow -------------------------------------------------------------


def _sweeps_an_independent_draw(levels, name, draws):
    rows = int(0.1 * levels * levels)
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", scale.ratings(rows, (levels, levels)))
    target, laid = crossed(model)
    chain = scale.chains(model, target, laid, (name,))[name]
    return 1.0 / scale.measured(chain, 300, draws).intercept


def test_the_intercept_mixes_as_well_with_sixteen_times_the_levels():
    """Plain Gibbs needs five times the sweeps or more; this sampler one and a half times as many at the most."""
    plain = [_sweeps_an_independent_draw(levels, "plain", 4000) for levels in (50, 800)]
    ours = [_sweeps_an_independent_draw(levels, "crossed", 2000) for levels in (50, 800)]
    assert plain[1] > 5.0 * plain[0] > 15.0
    assert ours[1] < 1.5 * ours[0] < 3.0


def test_plain_gibbs_of_the_benchmark_draws_from_the_same_posterior():
    """The named oracle of the mixing is a right sampler: means of the sds agree."""
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", scale.ratings(2000, (60, 50)))
    target, rows = crossed(model)
    means = {}
    for name, chain in scale.chains(model, target, rows, ("plain", "crossed")).items():
        draws = crossed_plan(model, "crossed").shape(6000, False)
        assert chain.advance(6000, 1, draws) == 6000
        x = np.column_stack([np.abs(draws.L[500:, :, 0, 0]), draws.dispersion[500:]])
        means[name] = x.mean(axis=0), x.std(axis=0) / np.sqrt(effective_size(x.T[:, None, :]))
    gap = (means["plain"][0] - means["crossed"][0]) / np.hypot(means["plain"][1], means["crossed"][1])
    assert np.abs(gap).max() < 4.0


def test_a_sweep_costs_time_in_proportion_to_the_entries():
    """No array grows faster than rows and levels: sums, entries and state of a model of 40,000 and 160,000 ratings."""
    sizes = []
    for n in (40_000, 160_000):
        model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", ratings(n, n // 10, n // 100))
        target, rows = crossed(model)
        state = lay_out_state(model, target, 1.0)
        held = [x for part in (target, state, target.translations) for x in part if isinstance(x, np.ndarray)]
        sizes.append(sum(x.nbytes for x in held) + rows.codes.nbytes)
    assert sizes[1] < 4.2 * sizes[0]
    assert sizes[1] < 60 * 160_000


# ---- the choice ---------------------------------------------------------------------------------


def test_what_is_chosen_and_why():
    small = {"draws": 20, "warmup": 20, "chains": 1}
    cases = [
        (ratings(1500, 60, 25), "collapsed"),  # few columns: a dense matrix, unseen
        (ratings(20_000, 2000, 500), "crossed"),
        (neighbours(3000, 1000, 990, 1e-3, sd=3.0), "joint"),
    ]
    for data, expected in cases:
        fit = bayou.fit("y ~ 1 + (1 | g) + (1 | h)", data, engine=Gibbs(**small), seed=1)
        assert fit.result.info["method"].startswith(expected), fit.result.info["method"]
    assert "steps" in fit.result.info["method"] and "shrinks errors" in fit.result.info["method"]


def test_the_rate_is_that_of_the_chain():
    """What sweeps without noise shrink by is the autocorrelation of the slowest coefficients with noise."""
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", neighbours(3000, 300, 280, 0.01))
    target, rows = crossed(model)
    state = lay_out_state(model, target, 2.0)
    rho = contraction(target, rows, state)
    out = room(target, 20_000)
    run_sweeps(packed(target), packed(state), rows.codes, True, 1.0, 1, *out, np.random.default_rng(1))
    b = out[1] - out[1].mean(axis=0)
    slowest = np.linalg.svd(b[::20], full_matrices=False)[2][:5]
    x = b @ slowest.T
    found = ((x[1:] * x[:-1]).mean(axis=0) / (x**2).mean(axis=0)).max()
    assert 0.5 < rho < 1.0 and found == pytest.approx(rho, abs=0.05)


# ---- what may go wrong --------------------------------------------------------------------------


def test_disconnected_levels_mix_all_the_same():
    """Ten parts that share no row: shifts between them keep the sweeps from crawling."""
    rng = np.random.default_rng(3)
    n = 4000
    part = rng.integers(0, 10, n)
    g, h = 20 * part + rng.integers(0, 20, n), 5 * part + rng.integers(0, 5, n)
    y = 3.0 * rng.normal(size=200)[g] + 2.0 * rng.normal(size=50)[h] + rng.normal(size=n)
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", {"y": y, "g": g, "h": h})
    target, rows = crossed(model)
    assert list(target.translations.parts) == [10]
    assert contraction(target, rows, lay_out_state(model, target, 2.0)) < 0.5
    fit = model.fit(Gibbs(parameterization="crossed", draws=1000, warmup=300, chains=2), seed=1)
    assert fit.summary(groups=True)["ess_bulk"].min() > 800


def test_nested_factors_mix_too():
    rng = np.random.default_rng(3)
    n = 3000
    ward = rng.integers(0, 300, n)
    y = rng.normal(size=300)[ward] + 0.7 * rng.normal(size=30)[ward // 10] + rng.normal(size=n)
    data = {"y": y, "ward": ward, "house": ward // 10}
    fit = bayou.fit(
        "y ~ 1 + (1 | ward) + (1 | house)", data, seed=1,
        engine=Gibbs(parameterization="crossed", draws=1000, warmup=300, chains=2),
    )  # fmt: skip
    assert fit.summary(groups=True)["ess_bulk"].min() > 500


@pytest.mark.parametrize("parameterization", ["crossed", "joint"])
def test_a_level_for_every_row_is_not_called_converged(parameterization):
    """Its sd and sigma cannot be told apart: some tens of effective draws of 8,000 by any sampler here, and said so."""
    rng = np.random.default_rng(4)
    data = {"y": rng.normal(size=600), "g": np.arange(600), "h": rng.integers(0, 80, 600)}
    priors = {"beta": Normal(0, 3), "sd": HalfNormal(1), "sigma": HalfT(4, 1)}
    engine = Gibbs(parameterization=parameterization)
    fit = bayou.fit("y ~ 1 + (1 | g) + (1 | h)", data, priors=priors, engine=engine, seed=1)
    assert not fit.verdict.ok and "sd_g" in str(fit.verdict)


def test_many_levels_with_one_row():
    """Most levels of g have one row, some have more: what tells its sd from sigma."""
    data = ratings(1500, 1200, 80)
    priors = {"beta": Normal(0, 3), "sd": HalfNormal(1), "sigma": HalfT(4, 1)}
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", data, priors=priors)
    one = model.fit(Gibbs(parameterization="crossed", draws=2000), seed=1).summary()
    two = model.fit(Gibbs(parameterization="blocked", draws=4000), seed=2).summary()
    assert one["ess_bulk"].min() > 1000
    error = np.hypot(one["sd"] / np.sqrt(one["ess_bulk"]), two["sd"] / np.sqrt(two["ess_bulk"]))
    assert (np.abs(one["mean"] - two["mean"]) / error).max() < 4.5


def test_rows_of_one_pair_are_one_entry():
    data = ratings(5000, 20, 10)
    data["w"] = np.random.default_rng(2).uniform(0.5, 2.0, 5000)
    target, rows = crossed(bayou.Model("y ~ 1 + (1 | g) + (1 | h)", data, weights="w"))
    assert rows.codes.shape == (1, 200) and rows.codes.dtype == np.int32
    assert target.W.sum() == pytest.approx(data["w"].sum())
    plain, _ = crossed(bayou.Model("y ~ 1 + (1 | g) + (1 | h)", ratings(500, 5000, 3000)))
    assert len(plain.W) == 0 and len(plain.Z) == 0  # one row an entry, weight one: codes and nothing else


@pytest.mark.parametrize("parameterization", ["crossed", "joint"])
def test_same_seed_same_draws_for_any_number_of_threads(parameterization):
    data = ratings(2000, 100, 70)
    one, two = (
        bayou.fit(
            "y ~ 1 + (1 | g) + (1 | h)", data, seed=3,
            engine=Gibbs(parameterization=parameterization, draws=50, warmup=350, chains=3, cores=cores),
        ).result.draws
        for cores in (1, 2)
    )  # fmt: skip
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


@pytest.mark.parametrize("parameterization", ["crossed", "joint"])
def test_a_chain_goes_on_from_its_snapshot_to_the_same_draws(parameterization):
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", ratings(800, 60, 40))
    plan = crossed_plan(model, parameterization)
    first = plan.new_chain(np.random.default_rng(5))
    first.advance(150, 1, plan.shape(150, True))
    kept, word = first.snapshot(), first.rng.bit_generator.state
    ends = [plan.shape(200, True), plan.shape(200, True)]
    first.adapt(300, 300)
    first.advance(200, 1, ends[0])
    again = plan.new_chain(np.random.default_rng(9))
    again.restore(kept)
    again.rng.bit_generator.state = word
    again.adapt(300, 300)
    again.advance(200, 1, ends[1])
    for name, values in ends[0].arrays().items():
        np.testing.assert_array_equal(values, ends[1].arrays()[name], err_msg=name)


def test_what_is_left_of_rows_that_were_summed_counts():
    """A remainder adds to the sum of squares and the number of rows, and to nothing else."""
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | h)", ratings(300, 20, 10))
    whole, _ = crossed(model)
    given = replace(
        model.design, reduced=Reduced("summed", 400, np.ones(300), Remainder(0.0, np.array([100.0]), np.array([7.0])))
    )
    other = object.__new__(bayou.Model)
    other._set(given, model.bound)
    other.__dict__["working"] = model.working
    rest, _ = crossed(other)
    assert rest.rows[0] == whole.rows[0] + 100.0 and rest.squares[0] == pytest.approx(whole.squares[0] + 7.0)
    np.testing.assert_array_equal(rest.a, whole.a)

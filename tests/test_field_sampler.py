"""The sampler of structured effects: exact answers, agreement with the other samplers, and the manners of an engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import integrate, stats

import bayou
from bayou.engines import Gibbs, Metropolis
from bayou.engines.field import continue_from, field_plan
from bayou.engines.field.centred import Centred
from bayou.engines.field.latent import elliptical_slice
from bayou.engines.field.sampling import _Continued, mode_and_spread
from bayou.engines.field.slices import slice_step
from bayou.engines.field.target import Seat, Target, field_of
from dense_field import of_model
from field_models import build, structures, table


def ess(draws: np.ndarray) -> float:
    return float(array_stats.ess(draws))


def run(model: bayou.Model, seed: int = 1, **settings: Any) -> Any:
    """The field sampler, also for models that have groups only."""
    return _Continued(plan=field_plan(model), **settings).run(model, np.random.default_rng(seed))


def same_mean(draws: np.ndarray, mean: float, error: float = 0.0, name: str = "", z: float = 4.0) -> None:
    mcse = math.hypot(float(draws.std()) / math.sqrt(ess(draws)), error)
    assert abs(float(draws.mean()) - mean) < z * mcse, f"{name}: {draws.mean():.4f}, exact {mean:.4f}, mcse {mcse:.4f}"


def same_sd(draws: np.ndarray, sd: float, name: str = "") -> None:
    square = (draws - draws.mean()) ** 2
    mcse = float(square.std()) / math.sqrt(ess(square)) / (2.0 * float(draws.std()))
    assert abs(float(draws.std()) - sd) < max(4.0 * mcse, 0.01 * sd), f"{name}: {draws.std():.4f}, exact {sd:.4f}"


# ---- exact answers -----------------------------------------------------------------------------------


def grid_of(field: Any, centre: np.ndarray, spread: np.ndarray, points: int = 61, reach: float = 8.0) -> Any:
    """Thetas on a grid in the coordinates of the curvature, with normalised weights of exp(value + log prior)."""
    axis = np.linspace(-reach, reach, points)
    mesh = np.stack(np.meshgrid(*[axis] * len(centre), indexing="ij"), axis=-1).reshape(-1, len(centre))
    thetas = centre + mesh @ spread.T
    logs = np.array([field(theta) for theta in thetas])
    weight = np.exp(logs - logs.max())
    return thetas, weight / weight.sum()


@pytest.mark.parametrize("structure", [pytest.param("rw1", marks=pytest.mark.slow), "icar"])
def test_gaussian_marginals_by_numerical_integration(structure: str) -> None:
    model = build(structure, "gaussian")
    own, dense = field_of(model), of_model(model)
    centre, spread = mode_and_spread(own)
    thetas, weight = grid_of(lambda t: dense.value(t) + own.log_prior(t), centre, spread)
    post = Gibbs(draws=4000, warmup=500).run(model, np.random.default_rng(3))
    sd_name = "sd_t" if structure == "rw1" else "sd_area"
    for k, name in enumerate((sd_name, "sigma")):
        values = np.exp(thetas[:, k])
        mean = float(weight @ values)
        draws = post.draws[name]
        same_mean(draws, mean, name=name)
        same_sd(draws, math.sqrt(float(weight @ (values - mean) ** 2)), name)
        centred = np.log(values) - float(weight @ np.log(values))
        for sharp in (1.0, 3.0):
            drawn = np.tanh(sharp * (np.log(draws) - float(weight @ np.log(values))))
            same_mean(drawn, float(weight @ np.tanh(sharp * centred)), name=f"tanh of log {name}")
        same_mean(np.log(draws), float(weight @ np.log(values)), name=f"log {name}")
    # the coefficients: a mixture of the Gaussians at the nodes
    keep = np.flatnonzero(weight > 1e-7)
    placed = [dense.place(thetas[k]) for k in keep]
    mean = np.array([p.x for p in placed]).T @ weight[keep]
    square = np.array([np.diag(p.covariance) + p.x**2 for p in placed]).T @ weight[keep]
    f = post.draws["f_t" if structure == "rw1" else "f_area"]
    for j in range(f.shape[-1]):
        same_mean(f[..., j], float(mean[j]), name=f"f[{j}]")
        same_sd(f[..., j], float(np.sqrt(square[j] - mean[j] ** 2)), f"f[{j}]")


def test_known_variances_give_the_conjugate_answer() -> None:
    """With known standard errors and sd_t all but fixed, x is one Gaussian in closed form."""
    data = {**table("gaussian"), "se": np.full(45, 0.8)}
    priors = {"sd_t": bayou.priors.Uniform(0.6999, 0.7001), "beta": bayou.priors.Normal(0.0, 2.0)}
    model = bayou.Model("measured(y, se) ~ x + rw1(t)", data, "gaussian", priors)
    at = of_model(model).place(np.log([0.7]))
    post = Gibbs(draws=4000, warmup=300).run(model, np.random.default_rng(1))
    X = np.concatenate([post.draws["f_t"].reshape(16_000, -1)], axis=1)
    m = X.shape[1]
    sd = np.sqrt(np.diag(at.covariance)[:m])
    assert np.abs((X.mean(axis=0) - at.x[:m]) / sd).max() < 4.5 / math.sqrt(16_000)
    error = np.cov(X.T) / np.outer(sd, sd) - at.covariance[:m, :m] / np.outer(sd, sd)
    assert np.abs(error).max() < 6.0 / math.sqrt(16_000)
    beta = post.draws["beta"].reshape(16_000, -1)
    printed = model.working.to_printed @ at.x[m:]
    assert np.abs(beta.mean(axis=0) - printed).max() < 4.5 * beta.std(axis=0).max() / math.sqrt(16_000)


def test_one_number_by_quadrature() -> None:
    """Poisson counts in one group of an uncorrelated effect: sd and its coefficient by two-dimensional quadrature."""
    data = {"y": np.array([0.0, 5.0, 1.0, 7.0]), "g": ["a", "b", "a", "b"]}
    priors = {"sd": bayou.priors.HalfNormal(1.0)}
    model = bayou.Model("y ~ 0 + (1 | g)", data, "poisson", priors)
    y = {"a": 1.0, "b": 12.0}

    def level(log_sd: float, k: str, power: int) -> float:
        sd = math.exp(log_sd)
        x = np.linspace(-9.0 * sd, 9.0 * sd, 4001)
        log = y[k] * x - 2.0 * np.exp(x) - 0.5 * (x / sd) ** 2 - log_sd
        return float(integrate.trapezoid(x**power * np.exp(log - 15.0), x))

    axis = np.linspace(-7.0, 2.0, 1201)
    L = np.array([[level(t, "a", 0), level(t, "b", 0), level(t, "b", 1)] for t in axis])
    density = np.exp(-0.5 * np.exp(2.0 * axis) + axis) * L[:, 0] * L[:, 1]
    total = integrate.trapezoid(density, axis)
    mean_sd = integrate.trapezoid(density * np.exp(axis), axis) / total
    mean_log = integrate.trapezoid(density * axis, axis) / total
    mean_b = integrate.trapezoid(density * L[:, 2] / np.maximum(L[:, 1], 1e-300), axis) / total
    post = run(model, draws=3000, warmup=500)
    sd = post.draws["sd_g"][..., 0]
    same_mean(sd, float(mean_sd), name="sd")
    same_mean(np.log(sd), float(mean_log), name="log sd")
    same_mean(post.draws["b_g"][:, :, 1, 0], float(mean_b), name="b")


# ---- each move on its own, theta or x held ----------------------------------------------------------


def seat_of(model: bayou.Model, theta: np.ndarray | None = None) -> tuple[Target, Seat]:
    own = field_of(model)
    theta = np.asarray(own.initial) if theta is None else theta
    assert own.place(theta)
    target = Target(model, own, np.array(own.x))
    seat = Seat(target)
    assert seat.sit(theta, np.random.default_rng(0).standard_normal(own.dimension))
    return target, seat


def test_elliptical_slices_by_importance_sampling() -> None:
    """Moments of x | theta, y of very non-Gaussian rows, from weighted draws of the Gaussian."""
    model = build("icar", "bernoulli")
    _, seat = seat_of(model, np.array([1.0]))
    rng = np.random.default_rng(2)
    X = seat.field.draw(rng, 60_000)
    logs = seat.field.log_ratio(X)
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    functions = np.hstack([np.tanh(X), X**2])
    exact = weight @ functions
    error = np.sqrt((weight**2) @ (functions - exact) ** 2)
    n = 12_000
    chain = np.empty((n, functions.shape[1]))
    for i in range(n):
        elliptical_slice(seat, rng)
        chain[i] = np.hstack([np.tanh(seat.x), seat.x**2])
    np.testing.assert_allclose(seat.field.transform(seat.z[None])[0], seat.x, atol=1e-8)
    for k in range(functions.shape[1]):
        same_mean(chain[None, :, k], float(exact[k]), float(error[k]), f"function {k}", z=4.5)


def test_slice_steps_keep_a_skewed_density() -> None:
    density = stats.gamma(2.0)
    rng = np.random.default_rng(1)
    at, value, found = 1.0, float(density.logpdf(1.0)), np.empty(20_000)
    for i in range(len(found)):
        at, value = slice_step(lambda t: float(density.logpdf(t)), at, value, 1.5, rng)
        found[i] = at
    assert stats.kstest(found[::5], density.cdf).pvalue > 1e-3
    assert value == float(density.logpdf(at))


@pytest.mark.parametrize("structure", ["rw1", "bym2", "leroux", "mixed", "slopes", "rw2", "uncorrelated"])
@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_densities_of_the_cheap_moves(structure: str, family: str) -> None:
    """What the centred and scaling moves compute differs from the exact joint density by a constant, Jacobian aside."""
    model = build(structure, family)
    target, seat = seat_of(model)
    moves, rng = Centred(target), np.random.default_rng(4)
    dense = of_model(model)
    theta, x = seat.theta, seat.x

    def joint(theta: np.ndarray, x: np.ndarray) -> float:
        return dense.log_joint(dense.place(theta), x, theta) + seat.field.log_prior(theta)

    here = joint(theta, x)
    for of in moves.quadratics:
        hyper = of.component.hyper
        sums = of.sums(x)
        for k in range(hyper.start, hyper.stop):
            moved = theta.copy()
            moved[k] += 0.3 * rng.standard_normal()
            found = of.log_density(moved[hyper], sums) - of.log_density(theta[hyper], sums)
            assert abs(found - (joint(moved, x) - here)) < 1e-7 * (1.0 + abs(here))
    for of in moves.quadratics:
        hyper = of.component.hyper
        assert of.scaled, "every structure here can be scaled"
        for k, mine in of.scaled.items():
            t = 0.4
            moved, scaled = theta.copy(), x.copy()
            moved[hyper.start + k] += t
            mask = np.tile(mine, of.component.effect.replicates) > 0.0
            scaled[of.component.place] = np.where(mask, math.exp(t) * x[of.component.place], x[of.component.place])
            if len(dense.constraints):
                assert np.abs(dense.constraints @ scaled).max() < 1e-9  # it stays on the subspace
            prior = of.log_density(moved[hyper], of.sums(x, k), math.exp(t)) - of.log_density(theta[hyper], of.sums(x))
            eta_before, eta_after = (dense.offset + dense.A @ v for v in (x, scaled))
            rows = dense.log_likelihood(eta_after, theta) - dense.log_likelihood(eta_before, theta)
            assert abs(prior + rows - (joint(moved, scaled) - here)) < 1e-7 * (1.0 + abs(here))
            # the subspace that is scaled has as many dimensions as the Jacobian counts
            basis = np.eye(len(x))[of.component.place][mask]
            blocked = dense.constraints @ basis.T
            assert of.free(k) == mask.sum() - (np.linalg.matrix_rank(blocked) if blocked.size else 0)
    for k, density in moves._dispersions(seat.field, theta, seat.field.predictor(x)):
        moved = theta.copy()
        moved[k] += 0.5
        found = density(float(moved[k])) - density(float(theta[k]))
        assert abs(found - (joint(moved, x) - here)) < 1e-7 * (1.0 + abs(here))


@pytest.mark.parametrize("link", ["identity", "log"])
def test_density_of_sigma_given_the_predictor(link: str) -> None:
    data = table("gamma")
    family = bayou.families.Gaussian(link=link)
    model = bayou.Model("y ~ x + rw1(t)", data, family, weights="w", sigma_by="arm", structures=structures())
    target, seat = seat_of(model)
    dense = of_model(model)
    x = seat.field.x.copy()
    here = dense.log_joint(dense.place(seat.theta), x, seat.theta) + seat.field.log_prior(seat.theta)
    for k, density in Centred(target)._dispersions(seat.field, seat.theta, seat.field.predictor(x)):
        moved = seat.theta.copy()
        moved[k] += 0.4
        there = dense.log_joint(dense.place(moved), x, moved) + seat.field.log_prior(moved)
        assert abs(density(float(moved[k])) - density(float(seat.theta[k])) - (there - here)) < 1e-7 * (1 + abs(here))


def test_a_seat_is_a_function_of_where_it_is() -> None:
    """The same theta and normals give the same density to the last bit, wherever the seat was before."""
    model = build("bym2", "bernoulli")
    target, seat = seat_of(model)
    rng = np.random.default_rng(1)
    theta, z = seat.theta.copy(), seat.z.copy()
    value, x = seat.density, seat.x.copy()
    for _ in range(3):
        seat.sit(theta + rng.standard_normal(len(theta)), rng.standard_normal(len(z)))
    for _ in range(2):  # the second time it is there already
        assert seat.sit(theta, z)
        assert seat.density == value
        np.testing.assert_array_equal(seat.x, x)


# ---- against the samplers of grouping factors -------------------------------------------------------


def agree(one: Any, two: Any) -> None:
    assert tuple(one.rows) == tuple(two.rows)
    for name, place in one.rows.items():
        a, b = one.values(place), two.values(two.rows[name])
        same_mean(a, float(b.mean()), float(b.std()) / math.sqrt(ess(b)), name, z=4.2)
        s, t = (a - a.mean()) ** 2, (b - b.mean()) ** 2
        error = math.hypot(s.std() / math.sqrt(ess(s)), t.std() / math.sqrt(ess(t)))
        assert abs(s.mean() - t.mean()) < 4.5 * error, f"variance of {name}: {s.mean():.4f}, {t.mean():.4f}"


@pytest.mark.slow
def test_bernoulli_pairs_agree_with_metropolis() -> None:
    """Two binary rows a group: the Gaussian approximation is far off here, and must not show."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 2)
    x = rng.normal(size=60)
    eta = 0.2 + 0.5 * x + rng.normal(size=30)[g]
    data = {"y": (rng.uniform(size=60) < 1 / (1 + np.exp(-eta))).astype(float), "x": x, "g": [f"g{k:02d}" for k in g]}
    priors = {"sd": bayou.priors.HalfNormal(1.5), "beta": bayou.priors.Normal(0.0, 2.0)}
    model = bayou.Model("y ~ x + (1 | g)", data, "bernoulli", priors)
    agree(run(model, draws=1500, warmup=500), Metropolis(draws=4000, warmup=1500).run(model, np.random.default_rng(2)))


@pytest.mark.slow
@pytest.mark.parametrize(("structure", "family"), [
    ("slopes", "poisson"), ("intercepts", "negative_binomial"), ("slopes", "gaussian"), ("intercepts", "gamma"),
    ("uncorrelated", "binomial"),
])  # fmt: skip
def test_groups_agree_with_the_other_samplers(structure: str, family: str) -> None:
    model = build(structure, family)
    other = Gibbs if family == "gaussian" else Metropolis
    wanted = other(draws=10_000, warmup=2000).run(model, np.random.default_rng(2))
    agree(run(model, draws=4000, warmup=1000), wanted)


@pytest.mark.parametrize("family", [pytest.param("gaussian", marks=pytest.mark.slow), "poisson"])
def test_priors_of_coefficients_that_are_not_normal(family: str) -> None:
    """A Student t and a bounded prior stand outside the Gaussian; the other samplers have moves for them."""
    priors = {"beta[x]": bayou.priors.StudentT(3, 0.0, 0.2), "beta[Intercept]": bayou.priors.Uniform(0.3, 2.0)}
    model = build("intercepts", family, priors)
    other = Gibbs if family == "gaussian" else Metropolis
    wanted = other(draws=4000, warmup=1500).run(model, np.random.default_rng(2))
    found = run(model, draws=1200, warmup=500)
    agree(found, wanted)
    assert found.draws["beta"][..., 0].min() > 0.3


# ---- manners of an engine ----------------------------------------------------------------------------


def test_structured_models_run_by_name() -> None:
    for engine, family in (("gibbs", "gaussian"), ("metropolis", "binomial")):
        model = build("mixed", family)
        fit = model.fit(engine, seed=1, draws=60, warmup=100, chains=2)
        draws = fit.result.draws
        assert draws["f_t"].shape == (2, 60, 12)
        assert draws["f_area"].shape == (2, 60, 9)
        assert draws["b_g"].shape == (2, 60, 5, 1)
        assert draws["sd_area"].shape == draws["phi_area"].shape == (2, 60)
        assert fit.result.statistics["accepted"].mean() > 0.1
        assert "elliptical" in fit.result.info["method"] or "exactly" in fit.result.info["method"]


def test_gibbs_refuses_counts() -> None:
    with pytest.raises(bayou.errors.Unsupported, match="metropolis"):
        Gibbs().run(build("rw1", "poisson"), np.random.default_rng(1))


def test_several_dispersions_of_counts_are_refused() -> None:
    with pytest.raises(bayou.errors.Unsupported, match="sigma_by"):
        Metropolis().run(build("rw1", "negative_binomial", sigma_by="arm"), np.random.default_rng(1))


@pytest.mark.parametrize("engine", ["quadrature", "pql"])
def test_engines_of_groups_refuse_structures(engine: str) -> None:
    with pytest.raises(bayou.errors.Unsupported, match="structured effect"):
        build("(1 | g) + rw1(t)", "poisson").fit(engine, seed=1)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_draws_do_not_depend_on_threads_or_batches(family: str) -> None:
    model = build("icar", family)
    engine = Gibbs if family == "gaussian" else Metropolis
    runs = [
        engine(draws=40, warmup=120, chains=3, cores=cores).run(model, np.random.default_rng(7)) for cores in (1, 2)
    ]
    for name in runs[0].draws:
        np.testing.assert_array_equal(runs[0].draws[name], runs[1].draws[name])
    assert not np.array_equal(runs[0].draws["beta"][0], runs[0].draws["beta"][1])


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_a_snapshot_goes_on_to_the_last_bit(family: str) -> None:
    plan = field_plan(build("bym2", family))
    seeds = np.random.default_rng(3).spawn(2)
    chain, later = plan.new_chain(seeds[0]), plan.new_chain(seeds[1])
    out = plan.shape(130, True)
    for scan in (100, 130):
        size = scan - (0 if scan == 100 else 100)
        assert chain.advance(size, 1, plan.shape(size, False)) == size
        chain.adapt(scan, 130)
    kept, state = chain.snapshot(), chain.rng.bit_generator.state
    chain.advance(20, 1, out)
    later.restore(kept)
    later.rng.bit_generator.state = state
    again = plan.shape(20, True)
    later.advance(20, 1, again)
    for name in ("beta", "b", "dispersion"):
        np.testing.assert_array_equal(getattr(again, name), getattr(out, name)[:20])


def test_thinned_draws_are_those_between() -> None:
    model = build("rw1", "poisson")
    every = Metropolis(draws=60, warmup=100, chains=1, thin=1).run(model, np.random.default_rng(1))
    third = Metropolis(draws=20, warmup=100, chains=1, thin=3).run(model, np.random.default_rng(1))
    np.testing.assert_array_equal(every.draws["sd_t"][:, 2::3], third.draws["sd_t"])


def test_moments_where_effects_are_not_kept() -> None:
    model = build("mixed", "poisson")
    whole = Metropolis(draws=420, warmup=100, chains=1).run(model, np.random.default_rng(1))
    some = Metropolis(draws=420, warmup=100, chains=1, keep_effects=False).run(model, np.random.default_rng(1))
    for name in ("f_t", "f_area", "b_g"):
        np.testing.assert_allclose(some.moments[f"mean_{name}"], whole.draws[name].mean(axis=1), atol=1e-10)
        sd = whole.draws[name].std(axis=1, ddof=1)
        np.testing.assert_allclose(some.moments[f"sd_within_{name}"], sd, atol=1e-10)
        assert some.draws[name].shape[1] == 210
    np.testing.assert_array_equal(some.draws["sd_t"], whole.draws["sd_t"])


def test_a_stored_run_has_the_same_draws(tmp_path: Any) -> None:
    model = build("icar", "poisson")
    plain = Metropolis(draws=80, warmup=100, chains=2).run(model, np.random.default_rng(4))
    stored = Metropolis(draws=80, warmup=100, chains=2, store=tmp_path / "run").run(model, np.random.default_rng(4))
    for name in plain.draws:
        np.testing.assert_array_equal(plain.draws[name], stored.draws[name])


@pytest.mark.slow
def test_going_on_from_an_approximation() -> None:
    """From a centre that is off and too narrow, the chain still finds the posterior."""
    model = build("rw1", "poisson")
    wanted = Metropolis(draws=1500, warmup=400).run(model, np.random.default_rng(1))
    centre, spread = mode_and_spread(field_of(model))
    starts = centre + 0.1 * np.random.default_rng(1).standard_normal((4, len(centre)))
    found = continue_from(
        model, centre + 0.8, 0.4 * spread, np.random.default_rng(2), draws=1500, warmup=500, starts=starts
    )
    agree(found, wanted)
    assert found.chains == 4


def test_an_interrupted_run_keeps_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    import bayou.engines.chains as chains

    model = build("rw1", "poisson")
    calls = {"n": 0}
    real = chains.wait

    def stop(jobs: Any, **settings: Any) -> Any:
        calls["n"] += 1
        if settings and calls["n"] > 12:
            raise KeyboardInterrupt
        return real(jobs, **settings)

    monkeypatch.setattr(chains, "wait", stop)
    post = Metropolis(draws=200_000, warmup=100, chains=2).run(model, np.random.default_rng(1))
    assert 0 < post.size < 200_000
    assert any("Interrupted" in said for said in post.info["messages"])

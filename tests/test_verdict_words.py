"""R-hat and effective sizes against arviz_stats, and the verdict in words."""

from __future__ import annotations

import numpy as np
import pytest

from bayou.posterior.convergence import effective_size, r_hat
from bayou.verdict import examine, judge
from standins import model, posterior


def autoregressive(shape: tuple[int, ...], rho: float, rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=shape)
    for t in range(1, shape[-1]):
        x[..., t] = rho * x[..., t - 1] + np.sqrt(1 - rho**2) * x[..., t]
    return x


@pytest.mark.parametrize("shape", [(4, 1000), (4, 1001), (2, 37), (3, 10), (4, 4), (2, 5), (1, 200)])
@pytest.mark.parametrize("rho", [0.0, 0.9, -0.6, 0.999])
def test_numbers_agree_with_arviz(shape: tuple[int, int], rho: float) -> None:
    from arviz_stats.base import array_stats

    rng = np.random.default_rng(3)
    x = autoregressive((4, *shape), rho, rng)
    x[1] = np.round(x[1], 1)  # ties
    x[2] += 0.3 * np.arange(shape[0])[:, None]  # chains apart
    x[3] = np.exp(5 * x[3])
    if shape[0] > 1:  # arviz gives no R-hat of one chain; here its halves are compared
        np.testing.assert_allclose(r_hat(x), array_stats.rhat(x), rtol=1e-8)
    np.testing.assert_allclose(effective_size(x), array_stats.ess(x), rtol=1e-8)
    np.testing.assert_allclose(effective_size(x, "mean"), array_stats.ess(x, method="mean"), rtol=1e-8)
    tail = array_stats.ess(x, method="tail", prob=(0.05, 0.95))
    np.testing.assert_allclose(effective_size(x, "tail"), tail, rtol=1e-8)


SHAPES = [(4, 1000), (8, 250), (2, 37), (3, 4), (4, 5), (2, 7)]
AWKWARD = {
    "antithetic": lambda x, rng: autoregressive(x.shape, -0.95, rng),
    "of two values": lambda x, rng: (x > 0.5) * 1.0,
    "of two values, one of them rare": lambda x, rng: (x > 2.0) * 1.0,
    "of three values": lambda x, rng: np.clip(np.round(x), -1.0, 1.0),
    "mostly tied": lambda x, rng: np.where(x < 0.8, 0.0, x),
    "one chain constant": lambda x, rng: np.concatenate([np.full_like(x[:1], x[0, 0]), x[1:]]),
    "half a chain constant": lambda x, rng: np.where(np.arange(x[0].size) < x[0].size // 2, x[:, :1], x),
    "all but one equal": lambda x, rng: (np.arange(x.size) == 0).reshape(x.shape) * 1.0,
    "all equal": lambda x, rng: np.full_like(x, 2.5),
    "Cauchy": lambda x, rng: rng.standard_cauchy(x.shape),
    "tiny": lambda x, rng: 1e-12 * x,
    "far from zero": lambda x, rng: 1e8 + x,
    "drifting": lambda x, rng: x + np.linspace(0.0, 3.0, x.shape[1]),
}


def agrees_with_arviz(x: np.ndarray) -> None:
    """R-hat and all effective sizes, to 1e-8."""
    from arviz_stats.base import array_stats

    with np.errstate(all="ignore"):
        wanted = array_stats.rhat(x), array_stats.ess(x), array_stats.ess(x, method="mean")
        tail = array_stats.ess(x, method="tail", prob=(0.05, 0.95))
    found = r_hat(x), effective_size(x), effective_size(x, "mean")
    for one, two in zip((*found, effective_size(x, "tail")), (*wanted, tail), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_draws_agree_with_arviz(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    agrees_with_arviz(np.stack([AWKWARD[kind](rng.normal(size=shape), rng) for _ in range(3)]))


def test_two_hundred_random_arrays_agree_with_arviz() -> None:
    """Shapes, dependence, scales, ties and outliers at random."""
    rng = np.random.default_rng(6)
    for _ in range(200):
        shape = int(rng.integers(2, 6)), int(rng.integers(4, 300))
        x = autoregressive((2, *shape), float(rng.uniform(-0.99, 0.999)), rng)
        x = x * 10.0 ** rng.uniform(-8, 8) + rng.normal() * 10.0 ** rng.uniform(-8, 2)
        if rng.random() < 0.3:
            x = np.round(x / x.std(), int(rng.integers(0, 3)))
        if rng.random() < 0.3:
            x[:, rng.integers(shape[0])] += x.std() * rng.exponential()
        if rng.random() < 0.2:
            x = np.exp(np.clip(3.0 * x / x.std(), -50.0, 50.0))
        agrees_with_arviz(x)


# folded about their median, all of these draws are equal
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_draws_equal_when_folded_agree_with_arviz(shape: tuple[int, int]) -> None:
    agrees_with_arviz(np.resize([1.0, -1.0], (1, *shape)))


def test_chains_stuck_at_two_values_do_not_agree() -> None:
    x = np.repeat([[0.0], [1.0]], 100, axis=1)[None]
    assert r_hat(x)[0] > 1e6


def test_draws_that_are_no_numbers_have_no_r_hat() -> None:
    x = np.random.default_rng(7).normal(size=(1, 4, 100))
    x[0, 1, 3] = np.nan
    assert np.isnan([r_hat(x)[0], effective_size(x)[0], effective_size(x, "mean")[0], effective_size(x, "tail")[0]]).all()


def test_too_few_draws_and_constants_have_no_r_hat() -> None:
    assert np.isnan(r_hat(np.zeros((1, 4, 3)))).all()
    assert np.isnan(effective_size(np.zeros((1, 4, 3)))).all()
    assert np.isnan(r_hat(np.ones((1, 4, 10)))).all()
    assert effective_size(np.ones((1, 4, 10)))[0] == 40


def verdict_of(result):
    return judge(result, examine(result))


def test_good_draws_are_ok() -> None:
    verdict = verdict_of(posterior())
    assert verdict.ok and not verdict.failures
    assert str(verdict).startswith("Verdict: ok. R-hat at most 1.00")


def test_chains_apart_are_named_with_what_to_do() -> None:
    result = posterior()
    result.draws["beta"][0, :, 1] += 1.0
    verdict = verdict_of(result)
    assert not verdict.ok
    assert "beta[x]" in verdict.reasons[0] and "Run longer" in verdict.reasons[0]
    assert str(verdict).startswith("Verdict: NOT OK. The chains do not agree")


def test_few_effective_draws_fail() -> None:
    verdict = verdict_of(posterior(draws=50))
    assert not verdict.ok and any("Too few effective draws" in r and "draws=" in r for r in verdict.reasons)


def test_stuck_groups_are_named() -> None:
    result = posterior()
    result.group_statistics["acceptance_clinic"][2, 3] = 0.0
    verdict = verdict_of(result)
    assert not verdict.ok and "level 3" in verdict.reasons[0] and "1 of 6" in verdict.reasons[0]


def test_group_coefficients_that_differ_between_chains_are_named() -> None:
    result = posterior()
    result.draws["b_clinic"][1, :, 4, 0] += 2.0
    verdict = verdict_of(result)
    assert not verdict.ok and "level 4" in verdict.reasons[0]


def test_constant_draws_are_explained_and_are_no_failure() -> None:
    result = posterior(model("gaussian"))
    result.draws["sigma"][:] = 1.0
    verdict = verdict_of(result)
    assert verdict.ok and any("sigma has the same value" in r for r in verdict.reasons)


def test_sds_near_zero_and_correlations_near_one_are_notes() -> None:
    result = posterior()
    result.draws["sd_clinic"][:, ::3, 0] = 1e-3
    result.draws["cor_clinic"][:, ::3, 0, 1] = result.draws["cor_clinic"][:, ::3, 1, 0] = 0.999
    verdict = verdict_of(result)
    assert verdict.ok
    assert any(r.startswith("sd_clinic[Intercept] may be zero: P(sd < 0.05) = 0.33") for r in verdict.reasons)
    assert any(r.startswith("cor_clinic[Intercept,x] may be") for r in verdict.reasons)


def test_messages_of_the_engine_and_the_design_are_in_the_verdict() -> None:
    result = posterior()
    result.info["messages"] = ["Interrupted: 12 of 500 draws."]
    result.model.design.notes = ("2 rows were dropped.",)
    reasons = verdict_of(result).reasons
    assert "Interrupted: 12 of 500 draws." in reasons and "2 rows were dropped." in reasons


def test_divergences_and_draws_that_are_not_finite_fail() -> None:
    result = posterior()
    result.statistics["diverging"] = np.eye(4, 500)
    assert any("4 draws diverged" in r for r in verdict_of(result).failures)
    result.draws["beta"][0, 0, 0] = np.inf
    assert any("not finite" in r for r in verdict_of(result).failures)


def test_a_hundred_thousand_groups_do_not_slow_the_verdict() -> None:
    import time

    of = model(levels=20_000, rows=1, slopes=False)
    result = posterior(of, draws=100)
    start = time.perf_counter()
    verdict_of(result)
    assert time.perf_counter() - start < 2.0

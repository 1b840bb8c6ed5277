"""R-hat and effective sizes against arviz_stats, and the verdict in words."""

from __future__ import annotations

import numpy as np
import pytest

from bayou.diagnose import examine, judge
from bayou.posterior.convergence import effective_size, r_hat
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

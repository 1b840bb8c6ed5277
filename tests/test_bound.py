"""Densities and draws of bound priors."""

import numpy as np
import pytest
from scipy import stats

import bayou.priors as bp
from bayou.binding import bind, draw_block, log_density_block
from bayou.errors import PriorError
from standin_designs import design, grouping

RNG = np.random.default_rng(12)
N = 60
X = RNG.normal(2000.0, 5.0, N)
G = np.arange(N) % 12
Y = 3.0 + 0.2 * (X - 2000) + RNG.standard_normal(12)[G] + RNG.standard_normal(N)
S = np.std(Y, ddof=1)


def slope_design(blocks=None, **extra):
    return design(
        Y,
        {"Intercept": 1.0, "x": X},
        [grouping("g", G, {"Intercept": 1.0, "x": X - X.mean()}, blocks)],
        **extra,
    )


def test_sds_block_is_normalised_in_two_dimensions():
    """Integrate over Sigma itself (11, 21, 22), so that the Jacobian is tested and not assumed."""
    built = slope_design()
    (block,) = bind({"sd": bp.Gamma(4.0, 4.0), "sd_g[x]": bp.HalfNormal(0.8), "cor": bp.LKJ(3)}, built).blocks
    a = np.exp(np.linspace(-2.6, 4.0, 30))
    c = np.exp(np.linspace(-11.0, 2.8, 30))
    u = np.linspace(-1, 1, 27)[1:-1]
    total = 0.0
    for aa in a:
        for cc in c:
            edge = np.sqrt(aa * cc)
            off = [log_density_block(block, np.array([[aa, v * edge], [v * edge, cc]])) for v in u]
            total += np.exp(off).sum() * (u[1] - u[0]) * edge * aa * cc
    total *= (np.log(a[1] / a[0])) * (np.log(c[1] / c[0]))
    assert total == pytest.approx(1.0, abs=0.01)
    rng = np.random.default_rng(4)
    draws = np.array([draw_block(block, rng) for _ in range(2000)])
    assert stats.kstest(1 / draws[:, 0, 0], stats.gamma(4, scale=1 / 4).cdf).pvalue > 1e-3
    assert stats.kstest(np.sqrt(draws[:, 1, 1]), stats.halfnorm(scale=0.8).cdf).pvalue > 1e-3
    cor = draws[:, 0, 1] / np.sqrt(draws[:, 0, 0] * draws[:, 1, 1])
    assert stats.kstest(cor, stats.beta(3, 3, loc=-1, scale=2).cdf).pvalue > 1e-3


def test_block_densities_and_draws_by_kind():
    built = slope_design()
    sigma = np.array([[2.0, 0.3], [0.3, 0.7]])
    rng = np.random.default_rng(5)
    for prior in (bp.InverseWishart(5, 2.0), bp.HuangWand(3, [1, 2])):
        (block,) = bind({"Sigma": prior}, built).blocks
        assert log_density_block(block, sigma) == pytest.approx(float(prior.at(2).log_density(sigma)))
        assert draw_block(block, rng).shape == (2, 2)
    (block,) = bind({"sd": bp.FlatSD()}, built).blocks
    with pytest.raises(PriorError, match="improper"):
        draw_block(block, rng)

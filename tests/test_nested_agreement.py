"""INLA against the samplers on every structure, and curves of known shape: recovery and coverage."""

from functools import cache

import numpy as np
import pytest

import bayou
import field_models
from agreement import errors
from bayou.engines import INLA

STRUCTURES = {
    **{name: field_models.STRUCTURES[name] for name in ("intercepts", "slopes", "rw1", "rw1 uneven", "rw1 cyclic")},
    **{name: field_models.STRUCTURES[name] for name in ("rw2", "rw2 cyclic", "ar1", "seasonal", "s", "icar", "car")},
    **{name: field_models.STRUCTURES[name] for name in ("leroux", "bym2", "known", "known precision", "by")},
    "s by": "s(z, by=arm, basis=8)",
    "ar1 by": "ar1(t, by=arm)",
    "leroux by": field_models.STRUCTURES["leroux by"],
    "mixed": "(1 | g) + rw2(t) + icar(area, graph=W)",
}
CASES = [(name, family) for name in STRUCTURES for family in ("gaussian", "poisson")]
CASES += [("rw2", "binomial"), ("s", "gamma"), ("rw1", "negative_binomial")]


@cache
def fits(name, family):
    """INLA's fit and a long chain of the same model."""
    model = field_models.build(STRUCTURES[name], family)
    return model.fit(INLA(), seed=1), model.fit("metropolis" if family != "gaussian" else "gibbs", draws=2_500, seed=2)


def compare(name, found, error, draws):
    """Means within 4 standard errors of both, and within .1 sd; sds within 4 errors or 5 %."""
    size, error_mean, error_sd = errors(draws)
    assert size > 500, f"{name}: {size:.0f} effective draws"
    gap = found.mean - draws.mean()
    allowed = 4 * np.hypot(error_mean, error * draws.std())
    assert abs(gap) < min(allowed, 0.1 * draws.std()), (
        f"{name}: INLA {found.mean:.4g}, chain {draws.mean():.4g} ({draws.std():.4g}): {gap / draws.std():+.3f} sd"
    )
    gap = found.sd - draws.std()
    assert abs(gap) < max(4 * np.hypot(error_sd, error * draws.std()), 0.05 * draws.std()), (
        f"{name}: sd of INLA {found.sd:.4g}, of the chain {draws.std():.4g}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), CASES)
def test_inla_agrees_with_the_sampler(name, family):
    nested, chain = fits(name, family)
    found = nested.result.approximation
    assert found.check["ok"], found.messages
    error = float(found.check["error"])
    for row, place in chain.result.rows.items():
        compare(row, found.marginals[row], error, np.asarray(chain.result.values(place)))
    for variable, draws in chain.result.draws.items():
        if variable.startswith(("f_", "b_")):
            draws = np.asarray(draws)
            effect = found.effect(variable)
            means, sds = np.ravel(effect.mean), np.ravel(effect.sd)
            flat = draws.reshape(*draws.shape[:2], -1)
            gaps = (means - flat.mean(axis=(0, 1))) / flat.std(axis=(0, 1))
            assert np.abs(gaps).max() < 0.1, f"{variable}: {gaps}"
            ratios = sds / flat.std(axis=(0, 1)) - 1
            assert np.abs(ratios).max() < 0.1, f"{variable}: {ratios}"


# ---- curves of known shape -----------------------------------------------------------------------

CURVES = {
    "wave": lambda x: np.sin(2 * np.pi * x),
    "bump": lambda x: 2 * np.exp(-30 * (x - 0.4) ** 2),
}
ROWS, TABLES = 120, 100


def simulate(curve, family, seed):
    """Data about a curve of x in (0, 1), its points t on a grid of 40."""
    rng = np.random.default_rng(seed)
    t = np.concatenate([np.arange(40), rng.integers(0, 40, ROWS - 40)])
    x = (t + 0.5) / 40
    eta = CURVES[curve](x)
    y = eta + 0.5 * rng.normal(size=ROWS) if family == "gaussian" else rng.poisson(np.exp(1 + eta)).astype(float)
    return {"y": y, "x": x, "t": t}, eta + (family == "poisson")


COVERAGE = [
    ("wave", "rw2(t)", "gaussian"),
    ("bump", "s(x)", "gaussian"),
    ("wave", "s(x)", "poisson"),
    ("bump", "rw2(t)", "poisson"),
    ("wave", "rw1(t)", "gaussian"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("curve", "term", "family"), COVERAGE)
def test_intervals_cover_the_curve(curve, term, family):
    """Pointwise 95 % intervals of the linear predictor cover 92 to 98 % of the points, averaged over tables."""
    inside, misses, widths = [], [], []
    for seed in range(TABLES):
        data, truth = simulate(curve, family, seed)
        fit = bayou.fit(f"y ~ 1 + {term}", data, family=family, engine=INLA(correct=False, draws=150), seed=seed)
        bands = fit.predict(kind="linear", interval=0.95, seed=seed)
        lower, upper = bands["lower"].to_numpy(), bands["upper"].to_numpy()
        inside.append(np.mean((lower <= truth) & (truth <= upper)))
        misses.append(np.sqrt(np.mean((bands["mean"].to_numpy() - truth) ** 2)))
        widths.append(np.mean(upper - lower))
    print(f"\n{curve} {term} {family}: coverage {np.mean(inside):.3f} (se {np.std(inside) / np.sqrt(TABLES):.3f}),")
    print(f"  root mean square error {np.mean(misses):.3f}, width {np.mean(widths):.3f}")
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean(misses) < 0.25, "the curve is not recovered"

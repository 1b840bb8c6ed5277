"""Parameter recovery and coverage of 95 % intervals over 1,000 simulated sets: REML with Kenward-Roger, quadrature."""

import numpy as np
import pytest

import bayou
from bayou.engines import Quadrature

SETS = 1000
WITHIN = (0.926, 0.971)  # of 1,000 sets: 95 % plus and minus 3.5 standard errors


def repeated_measures(rng):
    """Unbalanced lines of twelve subjects: few enough for small-sample corrections to matter."""
    subject = np.repeat(np.arange(12), rng.integers(3, 9, 12))
    x = rng.uniform(-1.0, 1.0, len(subject))
    b = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.2], [0.2, 0.4]], 12)[subject]
    y = 2.0 + 0.7 * x + b[:, 0] + b[:, 1] * x + 0.8 * rng.standard_normal(len(subject))
    return {"y": y, "x": x, "subject": subject}


@pytest.mark.slow
def test_reml_with_kenward_roger_covers():
    rng = np.random.default_rng(41)
    truth = {"Intercept": 2.0, "x": 0.7}
    inside, estimates = [], []
    for _ in range(SETS):
        fit = bayou.fit("y ~ x + (x | subject)", repeated_measures(rng), engine="reml", seed=1)
        rows = [fit.test(name, method="kenward-roger") for name in truth]
        inside.append([test.lower <= value <= test.upper for test, value in zip(rows, truth.values(), strict=True)])
        estimates.append(fit.fixed_effects["estimate"].to_numpy())
    coverage = np.mean(inside, axis=0)
    assert np.all((coverage >= WITHIN[0]) & (coverage <= WITHIN[1])), coverage
    estimates = np.array(estimates)
    error = estimates.std(axis=0) / np.sqrt(SETS)
    assert np.all(np.abs(estimates.mean(axis=0) - list(truth.values())) < 4.0 * error)


@pytest.mark.slow
def test_binomial_quadrature_covers():
    rng = np.random.default_rng(42)
    truth = np.array([-0.3, 0.6, 0.8])
    J, rows = 60, 6
    group, x = np.repeat(np.arange(J), rows), np.tile([0.0, 1.0], J * rows // 2)
    inside, estimates, failed = [], [], 0
    for _ in range(SETS):
        eta = truth[0] + truth[1] * x + truth[2] * rng.standard_normal(J)[group]
        data = {"y": rng.binomial(8, 1.0 / (1.0 + np.exp(-eta))), "n": np.full(len(x), 8), "x": x, "g": group}
        fit = bayou.fit("proportion(y, n) ~ x + (1 | g)", data, family="binomial", engine=Quadrature(nodes=11), seed=1)
        summary = fit.summary()
        failed += not fit.verdict.ok
        inside.append((summary["lower"] <= truth) & (truth <= summary["upper"]))
        estimates.append(summary["mean"].to_numpy())
    coverage = np.mean(inside, axis=0)
    assert failed == 0
    assert np.all((coverage >= WITHIN[0]) & (coverage <= WITHIN[1])), coverage
    estimates = np.array(estimates)
    error = estimates.std(axis=0) / np.sqrt(SETS)
    # maximum likelihood of a variance is short of it by about a part in J
    assert np.all(np.abs(estimates.mean(axis=0) - truth) < 4.0 * error + [0.0, 0.0, truth[2] / J])

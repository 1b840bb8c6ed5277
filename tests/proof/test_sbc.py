"""Simulation-based calibration of three models, 500 data sets each, and the coverage of intervals over 1,000."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bayou.diagnose.calibration.bands import critical, least_tail
from proof.calibration import DATA_SETS, DRAWS, LEVELS, SETTINGS, study, within_band

LEVEL = 0.001  # chance that a quantity of a right sampler is outside its band: there are 24 of them


def test_the_band_holds_what_it_says() -> None:
    """Of 2,000 sets of uniform ranks five in a hundred leave a band of 95 %."""
    rng = np.random.default_rng(7)
    outside = (least_tail(rng.integers(0, DRAWS + 1, (2000, 100)), DRAWS) < critical(100, DRAWS, 0.05)).mean()
    assert abs(outside - 0.05) < 4.0 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(
    ("width", "shift", "seen"), [(1.0, 0.0, False), (0.75, 0.0, True), (1.3, 0.0, True), (1.0, 0.3, True)]
)
def test_the_band_sees_posteriors_that_are_too_narrow_too_wide_or_beside(
    width: float, shift: float, seen: bool
) -> None:
    """y | theta ~ N(theta, 1), theta ~ N(0, 1): the posterior N(y/2, 1/2), right and wrong."""
    rng = np.random.default_rng(8)
    theta = rng.normal(size=500)
    y = theta + rng.normal(size=500)
    sd = np.sqrt(0.5)
    draws = y[:, None] / 2.0 + shift * sd + width * sd * rng.normal(size=(500, DRAWS))
    ranks = (draws < theta[:, None]).sum(axis=1)
    assert within_band(ranks, DRAWS, LEVEL) is not seen


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_are_uniform(name: str) -> None:
    found = study(name)
    outside = [
        f"{quantity} (least tail {least_tail(ranks, DRAWS):.1e})"
        for quantity, ranks in zip(found.names, found.ranks[:500].T, strict=True)
        if not within_band(ranks, DRAWS, LEVEL)
    ]
    assert not outside, ", ".join(outside)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("level", LEVELS)
def test_intervals_cover(name: str, level: float) -> None:
    """Within binomial limits of 99.9 %, for each row of the summary."""
    found = study(name)
    # quantiles between ranks of L draws: (L − 1) level of L + 1 gaps lie inside
    p = level * (DRAWS - 1.0) / (DRAWS + 1.0)
    low, high = stats.binom.interval(0.999, DATA_SETS, p)
    counts = found.covered[LEVELS.index(level)].sum(axis=0)
    wrong = {row: int(c) for row, c in zip(found.intervals, counts, strict=True) if not low <= c <= high}
    assert not wrong, f"{wrong} of {DATA_SETS}, not {low:.0f} to {high:.0f}"

"""How close is close: draws held to known moments, and to each other, in Monte Carlo standard errors."""

import numpy as np

from bayou.posterior.convergence import effective_size

ENOUGH = 20_000


def errors(draws: np.ndarray) -> tuple[float, float, float]:
    """Effective size of draws (chain, draw), and the Monte Carlo standard errors of their mean and sd."""
    size = float(effective_size(draws[None])[0])
    sd = draws.std()
    squares = (draws - draws.mean()) ** 2
    of_squares = squares.std() / np.sqrt(float(effective_size(squares[None])[0]))
    return size, sd / np.sqrt(size), of_squares / (2 * sd)


def agree(draws: np.ndarray, mean: float, sd: float, name: str, enough: float = ENOUGH) -> None:
    """Compare draws (chain, draw) with an exact mean and sd.

    Means within 4 Monte Carlo standard errors and .05 sd; sds within 4 Monte Carlo standard errors or 5 %,
    whichever is larger.
    """
    size, error, error_sd = errors(draws)
    assert size > enough, f"{name}: only {size:.0f} effective draws"
    gap = draws.mean() - mean
    assert abs(gap) < min(4 * sd / np.sqrt(size), 0.05 * sd), (
        f"{name}: mean {draws.mean():.5g}, exact {mean:.5g}, {gap / error:+.1f} standard errors"
    )
    found = np.sqrt(np.mean((draws - mean) ** 2))
    assert abs(found - sd) < max(4 * error_sd, 0.05 * sd), f"{name}: sd {found:.5g}, exact {sd:.5g}"


def near(draws: np.ndarray, mean: float, sd: float, name: str, means: float, sds: float) -> None:
    """Compare draws with rounded or simulated moments: means within ``means`` sds, sds within a share ``sds``."""
    gap = (draws.mean() - mean) / sd
    assert abs(gap) < means, f"{name}: mean {draws.mean():.5g}, published {mean:.5g}: {gap:+.3f} sds"
    ratio = draws.std() / sd - 1
    assert abs(ratio) < sds, f"{name}: sd {draws.std():.4g}, published {sd:.4g}: {ratio:+.1%}"


def same(one: np.ndarray, other: np.ndarray, name: str, enough: float = 1_000) -> None:
    """Compare two independent samples of the same quantity.

    Means within 4 Monte Carlo standard errors; sds within 4 of theirs or 5 %, whichever is larger.
    """
    (size, mean_error, sd_error), (size_2, mean_error_2, sd_error_2) = errors(one), errors(other)
    assert min(size, size_2) > enough, f"{name}: only {min(size, size_2):.0f} effective draws"
    gap = (one.mean() - other.mean()) / np.hypot(mean_error, mean_error_2)
    assert abs(gap) < 4, f"{name}: means {one.mean():.5g} and {other.mean():.5g}, {gap:+.1f} standard errors apart"
    gap, error = one.std() - other.std(), np.hypot(sd_error, sd_error_2)
    assert abs(gap) < max(4 * error, 0.05 * one.std()), (
        f"{name}: sds {one.std():.5g} and {other.std():.5g}, {gap / error:+.1f} standard errors apart"
    )

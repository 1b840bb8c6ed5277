"""How a fit is held to reference numbers: tolerances as the project promises them, messages that name the number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def close(found: float, expected: float, rtol: float, name: str, scale: float = 0.0) -> None:
    """Within rtol of the larger of |expected| and `scale` (the natural size of what may lie near zero)."""
    size = max(abs(expected), scale)
    assert abs(found - expected) <= rtol * size, (
        f"{name}: {found:.10g}, reference {expected:.10g}, {abs(found - expected) / size:.2g} apart, allowed {rtol:g}"
    )


def printed(found: float, text: str, name: str) -> None:
    """The number as printed: within half a unit of the last digit of `text`."""
    digits = len(text.partition(".")[2])
    # one part in a million of a unit for ties, which printing resolves either way
    assert abs(found - float(text)) <= (0.5 + 1e-6) * 10.0**-digits, f"{name}: {found:.8g}, printed {text}"


def saturated(y: np.ndarray, trials: np.ndarray) -> float:
    """Log likelihood of a binomial response at its own proportions."""
    from scipy.stats import binom

    return float(binom.logpmf(y, trials, y / trials).sum())


def ok(fit: Any) -> None:
    assert fit.verdict.ok, " ".join(fit.verdict.reasons)


def check_fixed(fit: Any, estimates: Mapping[str, float], errors: Mapping[str, float], rtol: float = 1e-4) -> None:
    """Fixed effects and standard errors, by bayou's names; an estimate near zero is held relative to its error."""
    found = fit.fixed_effects
    assert set(found.index) == set(estimates)
    for name, value in estimates.items():
        close(float(found.loc[name, "estimate"]), value, rtol, f"beta[{name}]")
        close(float(found.loc[name, "se"]), errors[name], rtol, f"se of {name}")


def check_components(fit: Any, expected: Mapping[str, float], rtol: float) -> None:
    """Sds, correlations and sigma, by the names of `fit.variance_components`, and no others."""
    found = fit.variance_components
    assert set(found.index) == set(expected)
    for name, value in expected.items():
        close(float(found.loc[name, "estimate"]), value, rtol, name)


def check_random(fit: Any, expected: Mapping[tuple[str, str, str], float], sds: Mapping[str, float], rtol: float) -> None:
    """Predictions of group coefficients; one near zero is held relative to the sd of its kind.

    The references' optimisers stop within a few 1e-5 of the maximum, and predictions near zero differ there by up to
    7e-4 of themselves, but by less than 3e-5 sd.
    """
    for (factor, level, coefficient), value in expected.items():
        frame = fit.random_effects(factor)
        close(
            float(frame.loc[(level, coefficient), "mean"]),
            value,
            rtol,
            f"{factor} {level}, {coefficient}",
            sds[f"sd_{factor}[{coefficient}]"],
        )

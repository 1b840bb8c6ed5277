"""Tests of linear hypotheses by the distance of the estimates from them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayou._types import Array
from bayou.errors import DataError
from bayou.inference.bases import Basis, centre, flat_draws
from bayou.inference.hypotheses import Hypothesis

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior import Posterior

__all__ = ["Test", "joint", "p_value", "reach", "wald_test"]


@dataclass(frozen=True, kw_only=True)
class Test:
    """The test of a linear hypothesis.

    Attributes
    ----------
    hypothesis
        Its equations in words, one a row.
    distribution
        What the statistic has under the hypothesis: ``"t"``, ``"z"``, ``"F"`` or ``"chi-squared"``.
    method
        How covariance and degrees of freedom were found.
    statistic
        Its value. F is divided by the numerator's degrees of freedom, chi-squared is not.
    numerator_df, denominator_df
        How many rows the hypothesis has; infinity for z and chi-squared.
    p
        Chance of a statistic as far out (two-sided).
    estimate, se, lower, upper
        Of one row: of what stands left of its ``=``, and the interval of probability ``interval``. None with several.
    probability
        After a sampler, and for one row: the posterior probability that it is greater than what it is said to be.
    """

    __test__: ClassVar[bool] = False  # no test of pytest's

    hypothesis: tuple[str, ...]
    distribution: str
    method: str
    statistic: float
    numerator_df: int
    denominator_df: float
    p: float
    interval: float = 0.95
    estimate: float | None = None
    se: float | None = None
    lower: float | None = None
    upper: float | None = None
    probability: float | None = None

    def table(self) -> pd.DataFrame:
        """Return the numbers as a frame of one row."""
        import pandas as pd

        names = ("estimate", "se", "lower", "upper")
        row: dict[str, object] = {name: value for name in names if (value := getattr(self, name)) is not None}
        row |= {"statistic": self.statistic, "numerator_df": self.numerator_df, "denominator_df": self.denominator_df}
        row["p"] = self.p
        if self.probability is not None:
            row["probability"] = self.probability
        return pd.DataFrame([row], index=[", ".join(self.hypothesis)])

    def __str__(self) -> str:
        lines = [f"{'Hypothesis' if k == 0 else '':<10}  {words}" for k, words in enumerate(self.hypothesis)]
        lines.append(f"{'Method':<10}  {self.method}")
        if self.estimate is not None and self.se is not None:
            value, se, low, high = (_number(x, self.se) for x in (self.estimate, self.se, self.lower, self.upper))
            lines.append(f"{'Estimate':<10}  {value} (se {se}), {100 * self.interval:g} %: {low} to {high}")
        df = f"{self.denominator_df:.1f}"
        of = {
            "t": f"t({df})",
            "F": f"F({self.numerator_df}, {df})",
            "z": "z",
            "chi-squared": f"chi-squared({self.numerator_df})",
        }[self.distribution]
        p = "p < 0.0001" if self.p < 1e-4 else f"p = {self.p:.4f}"
        lines.append(f"{'Test':<10}  {of} = {self.statistic:.3f}, {p}")
        if self.probability is not None:
            what = self.hypothesis[0].replace(" = ", " > ")
            lines.append(f"{'Posterior':<10}  P({what}) = {self.probability:.4f}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def _number(value: float | None, se: float) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    if not (se > 0.0 and np.isfinite(se)):
        return f"{value:.4g}"
    decimals = int(1 - np.floor(np.log10(se)))
    return f"{value:.{max(decimals, 0)}f}" if decimals <= 7 else f"{value:.3e}"


def wald_test(result: Posterior, of: Basis, hypothesis: Hypothesis, interval: float = 0.95) -> Test:
    """Test L beta = rhs.

    One row: t = (L b − rhs) / sqrt(L C L') with the degrees of freedom of the basis, z where they are infinite.
    Several: F = scale (L b − rhs)'(L C L')⁻¹(L b − rhs) / q, or chi-squared without the division.

    Raises
    ------
    DataError
        If the estimates have no spread in what is tested.
    """
    L, rhs = hypothesis.L, hypothesis.rhs
    value, variance = L @ centre(result), L @ of.covariance @ L.T
    if len(L) == 1:
        se = float(np.sqrt(variance[0, 0]))
        if not se > 0.0:
            raise DataError(f"{hypothesis.words[0]!r} has no standard error, so it cannot be tested.")
        df = float(of.each(L)[0])
        statistic = float((value[0] - rhs[0]) / se)
        half = float(reach(interval, np.array([df]))[0]) * se
        lower, upper, probability = value[0] - half, value[0] + half, None
        if result.estimates is None:
            drawn = flat_draws(result) @ L[0]
            lower, upper = np.quantile(drawn, (0.5 - interval / 2.0, 0.5 + interval / 2.0))
            probability = float(np.mean(drawn > rhs[0]))
        return Test(
            hypothesis=hypothesis.words,
            distribution="t" if np.isfinite(df) else "z",
            method=of.words,
            statistic=statistic,
            numerator_df=1,
            denominator_df=df,
            p=float(p_value(np.array([statistic]), np.array([df]))[0]),
            interval=interval,
            estimate=float(value[0]),
            se=se,
            lower=float(lower),
            upper=float(upper),
            probability=probability,
        )
    statistic, df, p = joint(of, L, value - rhs)
    return Test(
        hypothesis=hypothesis.words,
        distribution="F" if np.isfinite(df) else "chi-squared",
        method=of.words,
        statistic=statistic,
        numerator_df=len(L),
        denominator_df=df,
        p=p,
        interval=interval,
    )


def joint(of: Basis, L: Array, distance: Array) -> tuple[float, float, float]:
    """Return the statistic, denominator degrees of freedom and p of q rows together: F, or chi-squared."""
    from scipy.special import chdtrc, fdtrc

    q = len(L)
    variance = L @ of.covariance @ L.T
    size = np.sqrt(np.maximum(np.diag(variance), 0.0))
    if not size.min() > 0.0 or np.linalg.eigvalsh(variance / np.outer(size, size))[0] < 1e-12:
        raise DataError("What the hypothesis says has no spread in some direction, so it cannot be tested as a whole.")
    df, scale = of.degrees(L)
    squares = scale * float(distance @ np.linalg.solve(variance, distance))
    if np.isfinite(df):
        return squares / q, df, float(fdtrc(q, df, squares / q))
    return squares, df, float(chdtrc(q, squares))


def p_value(statistic: Array, df: Array) -> Array:
    """Return the two-sided p of t statistics; the normal one where df is infinite."""
    from scipy.special import ndtr, stdtr

    finite = np.isfinite(df)
    below = -np.abs(statistic)
    return np.asarray(2.0 * np.where(finite, stdtr(np.where(finite, df, 1.0), below), ndtr(below)))


def reach(interval: float, df: Array) -> Array:
    """Return the two-sided quantile of t, or of the normal where df is infinite."""
    from scipy.special import ndtri, stdtrit

    finite = np.isfinite(df)
    chance = 0.5 + interval / 2.0
    return np.asarray(np.where(finite, stdtrit(np.where(finite, df, 1.0), chance), ndtri(chance)))

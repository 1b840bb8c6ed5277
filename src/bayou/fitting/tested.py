"""The tests of a fit as its methods: hypotheses, terms, marginal means and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bayou.inference import Test, Tests
    from bayou.inference.analysis import Type
    from bayou.inference.bases import Method
    from bayou.inference.contrasts import Adjust
    from bayou.posterior import Posterior

__all__ = ["Tested"]


class Tested:
    """What `Fit` has for tests.

    ``method`` is everywhere one of

    - ``"satterthwaite"``: t and F with degrees of freedom from how well the covariance is known; the default after
      ML and REML without priors;
    - ``"kenward-roger"``: the same with a covariance corrected for small samples, after REML;
    - ``"wald"``: z and chi-squared, the default for all else. After a sampler the mean and the covariance of the
      draws are used.
    """

    result: Posterior

    @cached_property
    def _tests(self) -> Tests:
        from bayou.inference import Tests

        return Tests(self.result)

    def test(self, hypothesis: Any, rhs: Any = None, *, method: Method | None = None, interval: float = 0.95) -> Test:
        """Test linear hypotheses about the fixed effects, several of them together.

        Parameters
        ----------
        hypothesis
            Equations as text, several divided by commas or in a list: ``"x = 0"``, ``"x - 2*z = 1, w = 0"``. A
            coefficient's name stands as it is printed, a term's (``"treatment"``, ``"a:b"``) for all its columns,
            and what has no ``=`` is said to be zero. Or a matrix (q, P), or one row of it.
        rhs
            With a matrix, what its rows are said to be: one number or (q,); zero if it is not given.
        method
            See `Tested`.
        interval
            Probability of the interval of a single row.

        Returns
        -------
        Test
            It prints; ``.statistic``, ``.p``, ``.table()``.

        Raises
        ------
        FormulaError, UnsafeFormula, DataError
            If the hypothesis cannot be read, or contradicts itself.
        Unsupported
            If the method does not apply to this fit.

        Examples
        --------
        >>> import bayou
        >>> school = bayou.datasets.load("school")
        >>> fit = bayou.fit("score ~ ses + (ses | school)", school, engine="reml", seed=1)
        >>> print(fit.test("ses = 2", method="wald"))
        Hypothesis  ses = 2
        Method      Wald
        Estimate    ...
        Test        z = ..., p = ...
        """
        return self._tests.test(hypothesis, rhs, method, interval)

    def anova(self, type: Type = "III", *, method: Method | None = None) -> pd.DataFrame:
        """Test each term of the fixed effects: analysis of variance.

        Parameters
        ----------
        type
            ``"III"``: each term's deviations from what its margins say, categories averaged with equal weight,
            numbers at zero, whatever the coding in the formula; ``"II"``: each term after all that do not contain
            it; ``"I"``: each after those before it.
        method
            See `Tested`.

        Returns
        -------
        pandas.DataFrame
            By term: numerator_df, denominator_df, F, p; by Wald's method df, chi_squared, p.

        Raises
        ------
        DataError
            If there is no term beside the intercept.
        Unsupported
            If the method does not apply to this fit.
        """
        return self._tests.analysis(type, method)

    def marginal_means(
        self,
        factors: str | Sequence[str],
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        method: Method | None = None,
        interval: float = 0.95,
    ) -> pd.DataFrame:
        """Average the fixed effects over all combinations of the other factors' levels, with equal weights.

        Parameters
        ----------
        factors, by
            Columns of the fixed effects, such as ``"management"``, ``"a:b"`` or ``["a", "b"]``: a row for each
            combination, those of ``by`` outermost.
        at
            Values for other columns, ``{"x": 2.0}``; numbers stand at their means elsewhere.
        method
            See `Tested`.
        interval
            Probability between ``lower`` and ``upper``.

        Returns
        -------
        pandas.DataFrame
            On the link scale estimate, se, df, lower, upper (after a sampler mean, sd, lower, median, upper), group
            coefficients at zero; with another link than the identity also response, response_lower, response_upper,
            the same carried back.

        Raises
        ------
        DataError
            For columns that are not in the fixed effects, and values that do not fit.
        Unsupported
            If the method does not apply, or the formula centres a number by group.
        """
        return self._tests.means(factors, by, at, method, interval)

    def contrasts(
        self,
        factors: str | Sequence[str],
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        adjust: Adjust = "none",
        method: Method | None = None,
        interval: float = 0.95,
    ) -> pd.DataFrame:
        """Compare marginal means in pairs, within each combination of ``by``.

        Parameters
        ----------
        factors, by, at, method, interval
            As `marginal_means`.
        adjust
            How p and intervals allow for the number of pairs: ``"tukey"``, ``"holm"``, ``"bonferroni"`` or
            ``"none"``; a posterior takes none.

        Returns
        -------
        pandas.DataFrame
            estimate, se, df, lower, upper, statistic, p (after a sampler mean, sd, lower, median, upper and the
            probability of being positive); with a log or logit link also the ratio (of odds) and its interval.

        Raises
        ------
        DataError, Unsupported
            As `marginal_means`, and for an adjustment that is unknown or has no meaning.
        """
        return self._tests.contrasts(factors, by, at, adjust, method, interval)

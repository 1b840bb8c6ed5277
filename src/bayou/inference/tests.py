"""All tests of one fit, what they stand on computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayou.inference.bases import Basis, basis, default_method
from bayou.posterior.summaries import probability

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from bayou.inference.wald import Test
    from bayou.posterior import Posterior

__all__ = ["Tests"]


class Tests:
    """Hypotheses, terms and marginal means of one result.

    Parameters
    ----------
    result
        The fit; of a sampler or of an engine that maximises a likelihood.
    """

    __test__ = False  # no tests of pytest's

    def __init__(self, result: Posterior) -> None:
        self.result = result
        self._bases: dict[str, Basis] = {}

    def _basis(self, method: str | None) -> Basis:
        chosen = default_method(self.result) if method is None else method
        if chosen not in self._bases:
            self._bases[chosen] = basis(self.result, chosen)
        return self._bases[chosen]

    def test(self, hypothesis: Any, rhs: Any, method: str | None, interval: float) -> Test:
        """Test a linear hypothesis; see `linear_hypothesis` and `wald_test`."""
        from bayou.inference.hypotheses import linear_hypothesis
        from bayou.inference.wald import wald_test

        of = self._basis(method)
        return wald_test(
            self.result, of, linear_hypothesis(self.result.model.design, hypothesis, rhs), probability(interval)
        )

    def analysis(self, type: str, method: str | None) -> pd.DataFrame:
        """Test every term; see `analysis`."""
        from bayou.inference.analysis import analysis

        return analysis(self.result, self._basis(method), type)

    def means(
        self, factors: Any, by: Any, at: Mapping[str, Any] | None, method: str | None, interval: float
    ) -> pd.DataFrame:
        """Return marginal means; see `marginal_means`."""
        from bayou.inference.means import marginal_means

        return marginal_means(self.result, self._basis(method), factors, by, at, probability(interval))

    def contrasts(
        self, factors: Any, by: Any, at: Mapping[str, Any] | None, adjust: str, method: str | None, interval: float
    ) -> pd.DataFrame:
        """Return differences of marginal means; see `contrasts`."""
        from bayou.inference.contrasts import contrasts

        return contrasts(self.result, self._basis(method), factors, by, at, adjust, probability(interval))

"""Profile likelihood: how the likelihood falls along each parameter, and the intervals that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bayou._types import Array
from bayou.conditional.laplace import Laplace
from bayou.engines.marginal.climb import climb, hessian
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.marginal.identified import require_maximum
from bayou.engines.marginal.natural import natural_rows
from bayou.errors import Unsupported
from bayou.inference import coordinates
from bayou.inference.coordinates import Coordinate
from bayou.inference.estimated import (
    RESTRICTED,
    chosen,
    estimated_parts,
    estimates_of,
    likelihood_of,
    lower_root,
    reordered,
    steady,
)
from bayou.inference.walk import HigherMaximum, Walk
from bayou.posterior.summaries import probability

if TYPE_CHECKING:
    import pandas as pd

    from bayou.model import Model
    from bayou.posterior import Posterior

__all__ = ["Profile"]

Result = TypeVar("Result")
WHAT = "A profile likelihood"
CUT = 2.5758293035489004  # the 99 % interval


class Profile:
    """The profile likelihood of a fit, parameter by parameter; computed when looked at, and kept.

    For each parameter v the likelihood is maximised over all others; the interval of a level holds the v where
    2 (l − l(v)) is at most the chi-squared quantile of one degree of freedom. Sds that the data cannot tell from zero
    have intervals that begin there; a correlation's may end at ±1, a coefficient's at infinity.

    Parameters
    ----------
    posterior
        The result of a likelihood engine. By REML there is no likelihood in the fixed effects: its profile is that of
        maximum likelihood, as a note says.

    Attributes
    ----------
    rows
        Names of the parameters, as in the summary.
    notes
        Sentences.

    Raises
    ------
    Unsupported
        After a sampler, a method without a likelihood, or a fit with priors.

    References
    ----------
    Bates & Watts (1988), Nonlinear Regression Analysis, chapter 6. Bates et al., J. Stat. Software 67(1) (2015).

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> fit = bayou.fit("score ~ ses + (1 | school)", school, engine="ml", seed=1)
    >>> fit.profile().interval(0.95).loc["beta[ses]"].round(2).tolist()
    [1.92, 2.8]
    """

    def __init__(self, posterior: Posterior) -> None:
        self._make: Callable[[Model], Laplace] = likelihood_of(posterior, WHAT)
        self._found = estimates_of(posterior, WHAT)
        self.model = posterior.model
        self.rows = self._found.rows
        self.notes: tuple[str, ...] = ()
        self._refit = self._found.method in RESTRICTED
        if self._refit:
            self.notes = (
                f"The profile is that of {RESTRICTED[self._found.method]}, fitted again: a restricted likelihood is no "
                "function of the fixed effects.",
            )
        self._maximum: tuple[Laplace, Array, float] | None = None
        self._moved: dict[tuple[int, tuple[int, ...]], tuple[Laplace, Array]] = {}
        self._walks: dict[str, Walk] = {}

    # ---- what is asked for -----------------------------------------------------------------

    def interval(self, level: float = 0.95, parameters: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Return profile likelihood intervals.

        Parameters
        ----------
        level
            Confidence level.
        parameters
            Rows of the summary, or what they begin with (``"beta"``); None takes all.

        Returns
        -------
        pandas.DataFrame
            ``lower``, ``upper``, one row per parameter.
        """
        import pandas as pd
        from scipy.special import ndtri

        z = float(ndtri(0.5 + probability(level) / 2.0))
        names = chosen(self.rows, parameters)
        ends = [self._patiently(name, lambda walk: (walk.solve(-z), walk.solve(z))) for name in names]
        return pd.DataFrame(ends, index=names, columns=["lower", "upper"])

    def zeta(self, parameters: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Return the points of the walk: columns ``parameter``, ``value`` and ``zeta``, to 99 % on both sides."""
        import pandas as pd

        points = [(name, p.v, p.zeta) for name in chosen(self.rows, parameters) for p in self.walk(name).points]
        return pd.DataFrame(points, columns=["parameter", "value", "zeta"])

    def walk(self, name: str) -> Walk:
        """Return the walk along one row of the summary, at least to its 99 % interval."""

        def reached(walk: Walk) -> Walk:
            walk.reach(CUT)
            return walk

        return self._patiently(name, reached)

    @property
    def log_likelihood(self) -> float:
        """The maximum that everything is measured from."""
        return -self._top()[2]

    def __repr__(self) -> str:
        return f"Profile likelihood of {len(self.rows)} parameters: interval(level), zeta(); fit.plot.profile()"

    # ---- how it is found -------------------------------------------------------------------

    def _patiently(self, name: str, use: Callable[[Walk], Result]) -> Result:
        """Use a walk; should it find a higher maximum, all begins again from there."""
        for _ in range(5):
            try:
                return use(self._walk(name))
            except HigherMaximum as higher:
                walk = self._walks[name]
                self._climb(walk.of, walk.of.split(higher.psi))
        raise Unsupported(
            f"The profile of {name} finds one maximum above the other: the likelihood has several. Give priors and "
            "sample (engine='auto'), or use fit.confidence_intervals(method='bootstrap')."
        )

    def _top(self) -> tuple[Laplace, Array, float]:
        """Return the likelihood, where it is highest, and minus its logarithm there."""
        if self._maximum is None:
            of = self._make(self.model)
            psi = of.join(*estimated_parts(self.model, self._found, of.data.order, of.numbers))
            self._maximum = self._climbed(of, psi)
        return self._maximum

    def _climb(self, of: Laplace, parts: tuple[Array, Array, Array]) -> None:
        """Begin again from a point of a likelihood whose columns may stand in another order."""
        beta, entries, dispersion = parts
        climbed = self._climbed(of, of.join(beta, of.numbers.factors(entries), dispersion))
        kept = self._top()
        self._maximum = (kept[0], self._across(of, climbed[1], kept[0]), climbed[2])
        self._moved.clear()
        self._walks.clear()

    def _climbed(self, of: Laplace, psi: Array) -> tuple[Laplace, Array, float]:
        evaluate = steady(of)
        inverse = usable_inverse(hessian(evaluate, psi, np.eye(of.size)))
        found = climb(evaluate, of.numbers, of.explicit, psi, inverse)
        of.place(found.psi)
        require_maximum(of.model, of.point.eta)
        return of, found.psi, found.value

    def _across(self, source: Laplace, psi: Array, target: Laplace) -> Array:
        """Bring parameters of one order of the columns to another."""
        beta, entries, dispersion = source.split(psi)
        T = source.numbers.factors(entries)
        out = np.zeros_like(T)
        for g, grouping in enumerate(target.model.design.groupings):
            place = target.data.order.index(g)
            p = len(grouping.coefficients)
            names = source.model.design.groupings[g].coefficients
            at = [names.index(c) for c in grouping.coefficients]
            Sigma = (T[place, :p, :p] @ T[place, :p, :p].T)[np.ix_(at, at)]
            for block in grouping.blocks:
                out[place][np.ix_(block, block)] = lower_root(Sigma[np.ix_(block, block)])
        return target.join(beta, out, dispersion)

    def _ordered(self, factor: int, block: tuple[int, ...], first: tuple[int, ...]) -> tuple[Laplace, Array]:
        """Return the likelihood with some columns of a block first, and where it is highest."""
        of, psi, _ = self._top()
        if tuple(sorted(block)[: len(first)]) == first:
            return of, psi
        if (factor, first) not in self._moved:
            other = self._make(reordered(self.model, factor, block, first))
            self._moved[factor, first] = other, self._across(of, psi, other)
        return self._moved[factor, first]

    def _walk(self, name: str) -> Walk:
        if name not in self._walks:
            of, psi, coordinate = self._coordinate(name)
            self._walks[name] = Walk(of, coordinate, psi, self._top()[2])
        return self._walks[name]

    def _coordinate(self, name: str) -> tuple[Laplace, Array, Coordinate]:
        of, psi, _ = self._top()
        k = self.rows.index(name)
        P = self._found.fixed
        if k < P:
            return of, psi, coordinates.coefficient(of, k)
        row = natural_rows(self.model, of.levels > 0)[k - P]
        if row.variable == self.model.family.dispersion:
            return of, psi, coordinates.dispersion(of, row.index[0] if row.index else 0)
        kinds = "sd_", "cor_"
        sds = [r.variable for r in natural_rows(self.model, False) if r.scale == "log"]
        factors = list(dict.fromkeys(v.removeprefix(kinds[0]) for v in sds))
        factor = factors.index(row.variable.removeprefix(kinds[row.scale == "atanh"]))
        first = tuple(reversed(row.index)) if row.scale == "atanh" else row.index
        block = next(b for b in self.model.design.groupings[factor].blocks if first[0] in b)
        of, psi = self._ordered(factor, block, first)
        places = tuple(sorted(block)[: len(first)])
        if row.scale == "log":
            return of, psi, coordinates.deviation(of, factor, places[0])
        return of, psi, coordinates.correlation(of, factor, (places[0], places[1]))

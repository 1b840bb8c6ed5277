"""Models side by side: no, partial and complete pooling of groups, likelihoods, predictive accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers
from bayou.errors import DataError, Unsupported
from bayou.fitting import Fit, fit
from bayou.fitting.structures import open_parts
from bayou.inference.nested import same_data
from bayou.model import Model
from bayou.streaming.aligned import aligned

if TYPE_CHECKING:
    import pandas as pd

    from bayou.engines import Engine
    from bayou.predict.elpd import Elpd

__all__ = ["Pooling", "compare", "pooling"]


@dataclass(frozen=True)
class Pooling:
    """Three fits of the same formula that share information between groups differently.

    Attributes
    ----------
    none
        Every group has coefficients of its own, each under the default prior of a fixed effect.
    partial
        The mixed model itself.
    complete
        One set of coefficients for all: the formula without its bars.
    """

    none: Fit
    partial: Fit
    complete: Fit

    def table(self) -> pd.DataFrame:
        """Return posterior means and sds of each group's coefficients, one row per level and coefficient.

        Returns
        -------
        pandas.DataFrame
            Columns ``none``, ``partial``, ``complete`` and ``none_sd``, ``partial_sd``, ``complete_sd``; a
            coefficient here is the whole of it (fixed effect plus the group's own part).
        """
        import pandas as pd

        model = self.partial.result.model
        grouping = model.design.groupings[0]
        names = [str(level) for level in grouping.levels]
        b = self.partial.result.draws[next(k for k in self.partial.result.draws if k.startswith("b_"))]
        rows = {}
        for k, coefficient in enumerate(grouping.coefficients):
            common = _fixed(self.partial, coefficient)
            single = _fixed(self.complete, coefficient)
            for j, level in enumerate(names):
                partial = common + b[:, :, j, k]
                none = _fixed(self.none, _own_name(model, grouping.levels[j], coefficient))
                rows[level, coefficient] = [f(x) for x in (none, partial, single) for f in (np.mean, np.std)]
        columns = ["none", "none_sd", "partial", "partial_sd", "complete", "complete_sd"]
        index = pd.MultiIndex.from_tuples(list(rows), names=[grouping.name, "coefficient"])
        return pd.DataFrame(list(rows.values()), index=index, columns=columns)

    def __str__(self) -> str:
        lines = ["No, partial and complete pooling (posterior means)", "", self.table().to_string(float_format="%.3g")]
        for name, one in (("none", self.none), ("partial", self.partial), ("complete", self.complete)):
            lines.append(f"{name + ':':<10}{one.result.model.text}")
        return "\n".join(lines)


def _fixed(one: Fit, name: str) -> Any:
    """Draws of a fixed effect, zero where the model has none of that name."""
    names = one.result.model.design.coefficients
    beta = one.result.draws["beta"]
    return beta[..., names.index(name)] if name in names else np.zeros(beta.shape[:2])


def _own_name(model: Model, level: Any, coefficient: str) -> str:
    """Name of one group's coefficient in the formula without pooling."""
    factor = f"C({model.design.groupings[0].name})[{level}]"
    return factor if coefficient == "Intercept" else f"{factor}:{coefficient}"


def pooling(model: Model, engine: str | Engine = "auto", *, seed: int | None = None, **settings: Any) -> Pooling:
    """Fit a model with one grouping factor with no, partial and complete pooling.

    Parameters
    ----------
    model
        A mixed model with one grouping factor.
    engine, seed, **settings
        As in `bayou.fit`, the same for all three.

    Returns
    -------
    Pooling
        The three fits as ``none``, ``partial`` and ``complete``; ``table()`` holds them side by side.

    Raises
    ------
    Unsupported
        For a model with no grouping factor, several of them, one made of several columns, or structured effects.

    References
    ----------
    Gelman & Hill, Data Analysis Using Regression and Multilevel/Hierarchical Models (2007), ch. 12.

    Examples
    --------
    >>> import bayou
    >>> bass = bayou.datasets.load("bass")
    >>> model = bayou.Model("log(mercury) ~ center(log(length), by=station) + (1 | station)", bass)
    >>> three = bayou.pooling(model, draws=200, warmup=200, seed=1)
    >>> three.table().loc[("s01", "Intercept"), ["none", "partial", "complete"]].size
    3
    """
    if not isinstance(model, Model):
        raise DataError(f"pooling takes a Model, not {type(model).__name__}: pooling(bayou.Model(formula, data)).")
    if model.design.structured:
        shown = ", ".join(term.text for term in model.design.structured)
        raise Unsupported(
            f"pooling compares what groups share, and this model has structured effects too: {shown}. Fit the models "
            "that you want to compare one by one, and put them side by side with bayou.compare."
        )
    if model.design.reduced is not None:
        raise Unsupported(
            f"pooling fits other formulas to the same data, of whose {model.design.given:,} rows this model keeps "
            f"{model.design.n:,}. Build it in memory (stream=False), or fit the models one by one."
        )
    bars = model.design.formula.bars
    factors = {bar.factors for bar in bars}
    if len(factors) != 1 or len(next(iter(factors))) != 1:
        have = ", ".join(":".join(f) for f in sorted(factors)) or "none"
        raise Unsupported(
            f"pooling compares models with one grouping factor that is a column; this one has {have}. "
            "Fit the models that you want to compare one by one."
        )
    factor = next(iter(factors))[0]
    formula = model.design.formula
    response = formula.text.split("~", 1)[0].strip()
    offsets = "".join(f" + offset({o})" for o in formula.offsets)
    own = [term for bar in bars for term in _terms(bar.columns)]
    common = [term for term in _terms(formula.fixed) if term not in own]
    apart = [f"C({factor})" if term == "1" else f"C({factor}):{term}" for term in own]
    none = f"{response} ~ {' + '.join(['0', *apart, *(t for t in common if t != '1')])}{offsets}"
    complete = f"{response} ~ {formula.fixed}{offsets}"
    made = [_again(model, text) for text in (none, complete)]
    return Pooling(
        none=fit(made[0], engine=engine, seed=seed, **settings),
        partial=fit(model, engine=engine, seed=seed, **settings),
        complete=fit(made[1], engine=engine, seed=seed, **settings),
    )


def _terms(text: str) -> list[str]:
    """Split a written-out right-hand side; "0" says only that there is no intercept."""
    return [term for term in (part.strip() for part in text.split(" + ")) if term != "0"]


def _again(model: Model, text: str) -> Model:
    """Build the model of another formula on the same rows, with default priors."""
    design = model.design
    design.require_data("Fitting the same rows again by another formula")
    return Model(
        text,
        design.data,
        design.family,
        weights=design.weights_column,
        sigma_by=design.sigma_by,
        functions=design.recipe.functions,
    )


def compare(
    *fits: Fit,
    names: list[str] | None = None,
    by: str = "row",
    bootstrap: int = 0,
    seed: int | None = None,
    cores: int | None = None,
) -> pd.DataFrame:
    """Compare fits of the same data: by their likelihoods, or by leave-one-out after samplers.

    Parameters
    ----------
    *fits
        Two or more fits of the same response in the same rows, all by engines that maximise a likelihood or all by
        samplers.
    names
        What to call them; their formulas if None.
    by
        After samplers, what is left out and predicted: ``"row"`` (`Fit.loo`), or the name of a grouping factor or
        column (`Fit.leave_group_out`): which model predicts new groups best. One of the fits must know the groups.
    bootstrap
        Of likelihoods: how many responses of the smaller model to simulate for each test, whose distribution of the
        ratio gives ``p_bootstrap``. It needs no chi-squared, and is right where variances are at their border.
    seed, cores
        Of the bootstrap: the same seed gives the same p for any number of threads.

    Returns
    -------
    pandas.DataFrame
        After likelihood engines, fewest parameters first: ``parameters``, ``log_likelihood``, ``aic``, ``bic``, and
        the likelihood-ratio test of each model against the row above, ``chi_squared`` = twice the difference of the
        log likelihoods, ``df``, ``p`` and ``p_naive``. Fits by REML whose fixed effects differ are fitted again by
        maximum likelihood. A model that is no special case of the next one gets no test. Where a variance is zero in
        the smaller model, the border of what it can be, p is from ½ chi²(df − 1) + ½ chi²(df) and p_naive, too large,
        from chi²(df). The ``notes`` beneath the table say which of this was done.

        After samplers, best first: ``elpd``, the expected log predictive density, and its standard error, ``p``
        (effective parameters), the ``difference`` from the best and the standard error of that difference, and
        ``k_bad``, the number of rows (groups) whose Pareto k is still too large (their part of elpd is not to
        be trusted; ``notes`` say what was done for the others). After approximations also ``log_marginal``, the
        log marginal likelihood: differences of it are log Bayes factors, of models with the same scaling of
        their structured effects; NaN, with a note in ``attrs["notes"]``, where an effect such as rw2, whose
        line has a flat prior, is in some of the models and not in others.

    Raises
    ------
    DataError
        If the fits are of different responses, of both kinds, or fewer than two.
    Unsupported
        For a method without a likelihood (PQL).

    References
    ----------
    Self & Liang, JASA 82 (1987); Stram & Lee, Biometrics 50 (1994). Vehtari, Gelman & Gabry, Statistics and
    Computing 27 (2017).

    Examples
    --------
    >>> import bayou
    >>> bass = bayou.datasets.load("bass")
    >>> one = bayou.fit("log(mercury) ~ log(length)", bass, engine="ml", seed=1)
    >>> two = bayou.fit("log(mercury) ~ log(length) + (1 | station)", bass, engine="ml", seed=1)
    >>> table = bayou.compare(one, two, names=["one line", "parallel lines"])
    >>> table["parameters"].to_dict()
    {'one line': 3, 'parallel lines': 4}
    >>> bool(table.loc["parallel lines", "p"] < 0.001)
    True
    """
    if len(fits) < 2:
        raise DataError("compare needs at least two fits: compare(fit1, fit2).")
    for number, one in enumerate(fits, start=1):
        if not isinstance(one, Fit):
            raise DataError(
                f"argument {number} of compare is of type {type(one).__name__}: give what bayou.fit returns."
            )
    labels = names or _labels(fits)
    if len(labels) != len(fits) or len(set(labels)) != len(labels):
        raise DataError(f"names must hold {len(fits)} different names, one for each fit.")
    maximised = [one.result.estimates is not None for one in fits]
    if all(maximised):
        if by != "row":
            raise DataError("by= is of fits by samplers, which compare by elpd; these compare by their likelihoods.")
        from bayou.inference.likelihood_ratio import compared

        return compared([one.result for one in fits], labels, bootstrap, seed, cores)
    if any(maximised):
        kinds = [f"fit {k} by {_engine(one)}" for k, one in enumerate(fits, start=1)]
        raise DataError(
            f"compare takes likelihood fits or fits by samplers, not both: {', '.join(kinds)}. Fit all of them by one "
            "kind of engine: 'ml', 'reml' or 'laplace' for a table of likelihoods, 'auto' for leave-one-out."
        )
    if bootstrap:
        raise DataError("bootstrap= simulates likelihood ratios; these fits are by samplers and compare by elpd.")
    return _by_elpd(fits, labels, by)


def _engine(one: Fit) -> str:
    return str(one.result.info.get("engine", one.result.engine))


def _labels(fits: Sequence[Fit]) -> list[str]:
    """Return the formulas; where two are the same, engines or families beside them."""
    texts = [f.result.model.text for f in fits]
    for more in (_engine, lambda one: str(one.result.model.family)):
        if len(set(texts)) < len(texts):
            texts = [f"{text}, {more(one)}" for text, one in zip(texts, fits, strict=True)]
    return texts


def _by_elpd(fits: Sequence[Fit], labels: Sequence[str], by: str) -> pd.DataFrame:
    """Rank fits by their expected log predictive density of rows, or of groups, that were left out."""
    import pandas as pd

    first = fits[0].result.model.design
    for number, other in enumerate(fits[1:], start=2):
        design = other.result.model.design
        if not same_data(first, design):
            raise DataError(
                f"fit {number} is of another response than fit 1 ({design.given:,} rows of {design.response_name}, not "
                f"{first.given:,} of {first.response_name}): leave-one-out densities compare only on the same rows."
            )
    loos = [f.loo() for f in fits] if by == "row" else _by_groups(fits, by)
    order = np.argsort([-one.elpd for one in loos])
    gaps, apart = _differences(fits, loos, order, by)
    rows = [
        {
            "elpd": loos[i].elpd,
            "elpd_se": loos[i].se,
            "p": float(loos[i].p),
            "difference": loos[i].elpd - loos[order[0]].elpd,
            "difference_se": gap,
            "k_bad": int(np.sum(loos[i].frequency[np.asarray(loos[i].pareto_k).ravel() > loos[i].good_k])),
        }
        for i, gap in zip(order, gaps, strict=True)
    ]
    table = pd.DataFrame(rows, index=[labels[i] for i in order])
    notes = [f"{labels[i]}: {note}" for i in order for note in loos[i].notes] + apart
    evidence = [None if f.result.approximation is None else f.result.approximation.log_marginal for f in fits]
    if None not in evidence:
        table["log_marginal"] = [evidence[i] for i in order]
        parts = [open_parts(f.result.model) for f in fits]
        if any(sorted(own) != sorted(parts[0]) for own in parts):
            open_ones = ", ".join(dict.fromkeys(part for own in parts for part in own))
            table["log_marginal"] = np.nan
            notes.append(
                f"log_marginal is left out: the prior of {open_ones} leaves a part flat, so that it is known up to a "
                "constant, which these models do not share."
            )
    if notes:
        table.attrs["notes"] = notes
    return table


def _differences(
    fits: Sequence[Fit], loos: Sequence[Elpd], order: Integers, by: str
) -> tuple[list[float], list[str]]:
    """Return the standard errors of the differences from the best, and what is to be said of those that have none."""
    from bayou.predict.elpd import standard_error

    best = int(order[0])
    gaps, told = [], []
    for i in map(int, order):
        both = _side_by_side(fits, loos, i, best, by)
        gaps.append(np.nan if both is None else standard_error(*both))
        if both is None:
            told.append(
                "difference_se is left out where rows were merged by the columns of each model and those of none are "
                "among those of the other: which row of one is which of the other is not known. Fit in memory "
                "(stream=False) for it."
            )
    return gaps, list(dict.fromkeys(told))


def _side_by_side(
    fits: Sequence[Fit], loos: Sequence[Elpd], i: int, best: int, by: str
) -> tuple[Array, Array] | None:
    """Return the differences between two fits row by row, and how often each counts; None where that is not known."""
    one, other = (np.asarray(loos[k].elpd_i).ravel() for k in (i, best))
    a, b = fits[i].result.model.design, fits[best].result.model.design
    if by != "row" or i == best or (a.reduced is None and b.reduced is None):
        return one - other, np.asarray(loos[i].frequency)
    at = aligned(a, b)
    if at is not None:
        return one - other[at], np.asarray(loos[i].frequency)
    at = aligned(b, a)
    return None if at is None else (one[at] - other, np.asarray(loos[best].frequency))


def _by_groups(fits: Sequence[Fit], by: str) -> list[Any]:
    """Leave out the same groups of rows in each fit; a fit that does not know them takes those of one that does."""
    from bayou.predict.leave_out import group_labels, leave_group_out

    failure: DataError | None = None
    for one in fits:
        try:
            _, levels, codes = group_labels(one.result.model.design, by)
        except DataError as problem:
            failure = failure or problem
            continue
        rows = levels[codes]
        return [
            f.leave_group_out(by) if _knows(f, by) else leave_group_out(f.result, rows, name=by) for f in fits
        ]
    assert failure is not None
    raise failure


def _knows(one: Fit, by: str) -> bool:
    design = one.result.model.design
    return by in design.data or any(g.name == by for g in design.groupings)

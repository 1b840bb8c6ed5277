"""Formula and data to a `Design`: every array that a model needs, and how to make them for new rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayou._types import Array, Integers, Labels, Mask
from bayou.design.coding import learn_coding
from bayou.design.evaluate import Evaluator, Functions
from bayou.design.frames import Frame, read
from bayou.design.grouping import Grouping, learn_groupings
from bayou.design.learnt import Learnt
from bayou.design.levels import Levels, learn_levels, unused_levels
from bayou.design.missing import check_columns, check_finite, complete_rows
from bayou.design.moments import Moments
from bayou.design.newrows import NewRows, Recipe, positive_weights, total_offset
from bayou.design.reduced import Reduced, Remainder
from bayou.design.response import read_outcome
from bayou.design.structured import StructuredTerm, learn_structured
from bayou.design.transforms import State
from bayou.errors import DataError, FormulaError, Unsupported
from bayou.formula import Formula, parse
from bayou.formula.terms import Term, expand, summands
from bayou.formula.words import plural

if TYPE_CHECKING:
    from bayou.families import Family

__all__ = ["Design", "Grouping", "NewRows", "build"]

_given = "(weights)"


@dataclass(frozen=True, eq=False)
class Design:
    """A formula bound to data, as arrays.

    Attributes
    ----------
    formula : Formula
    family : Family
    response_name : str
    y : (n,) ndarray
        Responses; of a binomial response the successes.
    trials, weights, offset : (n,) ndarray
        Trials and weights are ones where there are none, the offset zeros.
    standard_errors : (n,) ndarray or None
        Of ``measured(y, se)``.
    X : (n, P) ndarray
        Columns of the fixed effects, in C order.
    coefficients : tuple of str
        Their names: "Intercept" first where there is one, "x", "treatment[drug]", "x:z",
        "poly(x, 2)[1]".
    groupings : tuple of Grouping
    weights_column : str or None
        The column of `data` that holds the weights; "(weights)" when they were given as an array.
    sigma_by : str or None
    sigma_codes : (n,) ndarray of int64
    sigma_levels : ndarray of objects
        One level when `sigma_by` is None.
    response_levels : (reference, success) or None
        The two levels of a text or boolean response.
    data : dict of str to ndarray
        The raw columns that were used, after dropping rows; with `categories`, `read` takes them back.
    categories : dict of str to ndarray
        Declared order of levels, of categorical columns.
    index : (n,) ndarray
        Labels of the rows, their positions where the table has none.
    dropped : int
        Rows left out because of missing values.
    notes : tuple of str
        Sentences for the print-out: dropped rows, unused levels, reference levels.
    structured : tuple of StructuredTerm
    structures : dict of str to object
        What the structured effects name, as it was read: a `Graph`, or (names, matrix).
    reduced : Reduced or None
        How the rows came from more rows that were given; None where every row stands for itself.
    """

    formula: Formula
    family: Family
    response_name: str
    y: Array
    trials: Array
    weights: Array
    offset: Array
    standard_errors: Array | None
    X: Array
    coefficients: tuple[str, ...]
    groupings: tuple[Grouping, ...]
    weights_column: str | None
    sigma_by: str | None
    sigma_codes: Integers
    sigma_levels: Labels
    response_levels: tuple[Any, Any] | None
    data: dict[str, npt.NDArray[Any]] = field(repr=False)
    categories: dict[str, Labels] = field(repr=False)
    index: Labels = field(repr=False)
    dropped: int
    notes: tuple[str, ...]
    recipe: Recipe = field(repr=False)
    structured: tuple[StructuredTerm, ...] = ()
    structures: dict[str, object] = field(default_factory=dict, repr=False)
    reduced: Reduced | None = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """The number of rows that the arrays hold."""
        return len(self.y)

    @property
    def given(self) -> int:
        """The number of rows that were given and used: `n`, unless rows were summed or merged."""
        return self.n if self.reduced is None else self.reduced.given

    def counted(self, rows: Mask) -> int:
        """Return how many of the rows given some rows (n,) stand for."""
        return int(np.sum(rows)) if self.reduced is None else round(float(self.reduced.frequency[rows].sum()))

    @property
    def remainder(self) -> Remainder:
        """What the rows leave out of the log likelihood of the rows as given."""
        return Remainder.nothing(len(self.sigma_levels)) if self.reduced is None else self.reduced.remainder

    @cached_property
    def moments(self) -> Moments:
        """Means and scales of the columns, of the rows as given."""
        return Moments(self)

    def require_rows(self, what: str) -> None:
        """Refuse what goes over single rows, where only their sums were kept.

        Raises
        ------
        Unsupported
            Naming it, and what to do.
        """
        if self.reduced is not None and self.reduced.how in ("summed", "gone"):
            became = f"were summed to {self.n:,} as they were read"
            if self.reduced.how == "gone":
                became = "were in files that are not there any more"
            raise Unsupported(
                f"{what} takes each row by itself, and the {self.given:,} rows {became}. Fit a sample of the rows in "
                "memory for it, or all of them with stream=False if they fit."
            )

    def require_data(self, what: str) -> None:
        """Refuse what needs the columns of the table, where only a few of its rows were kept.

        Raises
        ------
        Unsupported
            Naming it, and what to do.
        """
        if self.reduced is not None:
            raise Unsupported(
                f"{what} takes the columns of the table, and the {self.given:,} rows were not kept as they were read. "
                "Fit a sample of the rows in memory for it, or all of them with stream=False if they fit."
            )

    def rebuild(self, new_data: Any, need_response: bool = False) -> NewRows:
        """Code new data as the first data were coded: same columns, centres, knots and levels.

        Parameters
        ----------
        new_data : table
            Anything that `build` takes. Columns go by name.
        need_response : bool
            Whether the response must be there too.

        Returns
        -------
        NewRows
            With code -1 where the level of a grouping factor is unseen, missing, or where its column
            is absent; node -1 where a structured effect has no node at a time, or its column is absent.

        Raises
        ------
        DataError
            For missing columns (all of them listed) or values, levels of a fixed factor that were not
            seen before, areas that the graph does not have, and values outside the knots of bs().

        Examples
        --------
        >>> from bayou import families
        >>> design = build("y ~ x", {"y": [1.0, 2.0, 4.0], "x": [0, 1, 2]}, families.get("gaussian"))
        >>> design.rebuild({"x": [5]}).X
        array([[1., 5.]])
        """
        return self.recipe.rebuild(new_data, need_response)


def build(
    formula: str | Formula,
    data: Any,
    family: Family,
    *,
    weights: str | npt.ArrayLike | None = None,
    sigma_by: str | None = None,
    missing: str = "error",
    functions: Functions | None = None,
    categories: Mapping[str, Sequence[Any]] | None = None,
    structures: Mapping[str, Any] | None = None,
    learnt: Learnt | None = None,
) -> Design:
    """Build the design of a formula and a table.

    Parameters
    ----------
    formula : str or Formula
    data : table
        pandas, polars, pyarrow, a dict of columns, or a path to CSV or Parquet.
    family : Family
    weights : str or array, optional
        Prior weights: a column, or one positive number per row.
    sigma_by : str, optional
        A factor, or ``a:b``, with one residual sd per level.
    missing : {"error", "drop"}
    functions : mapping of str to callable, optional
        Functions of columns that the formula may call.
    categories : mapping, optional
        Declared order of the levels of text columns.
    structures : mapping, optional
        The graphs and matrices that structured effects name.
    learnt : Learnt, optional
        That the table holds only witnesses of more rows, and what all of them say. What a few rows cannot tell is not
        checked: slopes that are constant within every level, and how factors are crossed.

    Returns
    -------
    Design

    Raises
    ------
    FormulaError
        When the formula names what the data do not have, or cannot be read.
    DataError
        When the data cannot be used as they stand; the message names columns, rows, areas and pairs.
    Unsupported
        For a GeoDataFrame without libpysal.

    Examples
    --------
    >>> from bayou import families
    >>> data = {"y": [3.0, 5.0, 4.0, 8.0], "arm": ["a", "b", "a", "b"], "g": [1, 1, 2, 2]}
    >>> design = build("y ~ arm + (1 | g)", data, families.get("gaussian"))
    >>> design.coefficients
    ('Intercept', 'arm[b]')
    >>> design.groupings[0].codes
    array([0, 0, 1, 1])
    """
    own = dict(functions or {})
    parsed = parse(formula, own) if isinstance(formula, str) else formula
    _check_supported(parsed, own)
    frame = read(data, categories)
    if frame.n == 0:
        raise DataError("the data have 0 rows: look at the file, or at the filter that left none.")
    by = sigma_factors(sigma_by, frame)
    if weights is not None and not isinstance(weights, str):
        frame = frame.with_column(_given, _row_weights(weights, frame.n))
        weights = _given
    columns = list(dict.fromkeys([*parsed.columns, *([weights] if weights is not None else []), *by]))
    check_columns(frame, columns, parsed.text)
    keep = complete_rows(frame, columns, missing)
    positions = None if keep is None else np.flatnonzero(keep).astype(np.int64)
    dropped, total = 0 if keep is None else frame.n - int(keep.sum()), frame.n
    index = _index(frame, keep)
    if keep is not None:
        frame = frame.take(keep)
    if learnt is not None:
        positions, dropped, total = learnt.positions, learnt.dropped, learnt.rows
        index = positions
    notes = [f"{plural(dropped, 'row')} of {total:,} dropped because of missing values."] if dropped else []
    check_finite(frame, columns, positions)

    states: dict[str, State] = {} if learnt is None else dict(learnt.states)
    rows = Evaluator(frame, own, states, learning=True, positions=positions)
    outcome = read_outcome(parsed.response, rows, family)
    fixed, X = learn_coding(_terms(parsed.fixed, rows), rows)
    bars = [(bar, _terms(bar.columns, rows)) for bar in parsed.bars]
    groupings, recipes, group_notes = learn_groupings(bars, rows, complete=learnt is None)
    structured, structured_recipes, used, structured_notes = learn_structured(
        parsed.structured, rows, structures, [grouping.name for grouping in groupings], _terms(parsed.fixed, rows)
    )
    sigma, sigma_codes = _sigma(by, frame, family, outcome.standard_errors is not None)
    unused = [note for factor in by if (note := unused_levels(factor, frame[factor].factor()))]
    group_notes += [] if learnt is None else [learnt.mark]
    notes += [*outcome.notes, *fixed.notes, *group_notes, *structured_notes, *unused]
    return Design(
        formula=parsed,
        family=family,
        response_name=parsed.response.text,
        y=np.ascontiguousarray(outcome.y),
        trials=np.ascontiguousarray(outcome.trials),
        weights=_weights(weights, frame, positions),
        offset=total_offset(parsed, rows),
        standard_errors=outcome.standard_errors,
        X=X,
        coefficients=fixed.coefficients,
        groupings=groupings,
        weights_column=weights,
        sigma_by=sigma_by,
        sigma_codes=sigma_codes,
        sigma_levels=np.array(["all"], dtype=object) if sigma is None else sigma.labels,
        response_levels=outcome.levels,
        data={column: frame[column].raw() for column in columns},
        categories={c: frame[c].factor().levels for c in columns if frame[c].ordered},
        index=index,
        dropped=dropped,
        notes=tuple(dict.fromkeys(notes)),
        recipe=Recipe(
            formula=parsed,
            family=family,
            functions=own,
            states=states,
            fixed=fixed,
            groupings=recipes,
            weights=weights,
            sigma=sigma,
            response_levels=outcome.levels,
            structured=structured_recipes,
        ),
        structured=structured,
        structures=used,
    )


def _check_supported(formula: Formula, functions: Functions) -> None:
    lacking = formula.functions - set(functions)
    if lacking:
        raise FormulaError(f"the formula was read with functions that are not given: {sorted(lacking)}.")


def _terms(text: str, rows: Evaluator) -> list[Term]:
    """Read a written-out part of the formula back into terms."""
    return expand(summands(rows.tree(text)))


def sigma_factors(sigma_by: str | None, frame: Frame) -> tuple[str, ...]:
    """Return the columns whose combinations have a residual sd each: one column, or a:b."""
    if sigma_by is None:
        return ()
    return (sigma_by,) if sigma_by in frame else tuple(part.strip() for part in sigma_by.split(":"))


def _sigma(by: tuple[str, ...], frame: Frame, family: Family, known: bool) -> tuple[Levels | None, Integers]:
    if not by:
        return None, np.zeros(frame.n, dtype=np.int64)
    if known:
        raise FormulaError("measured(y, se) gives every row its own sd, so sigma_by= has no meaning there.")
    if family.dispersion is None:
        raise Unsupported(f"a {family.name} response has no dispersion that sigma_by= could split.")
    return learn_levels(by, frame)


def _weights(column: str | None, frame: Frame, positions: Integers | None) -> Array:
    if column is None:
        return np.ones(frame.n)
    return positive_weights(column.strip("()"), frame[column].numbers(), positions)


def _row_weights(weights: npt.ArrayLike, n: int) -> Array:
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("weights= takes the name of a column or one number per row.") from None
    if values.shape != (n,):
        raise DataError(f"weights= has shape {values.shape}; the data have {n:,} rows.")
    return values


def _index(frame: Frame, keep: npt.NDArray[np.bool_] | None) -> Labels:
    index = np.arange(frame.n) if frame.index is None else frame.index
    return index if keep is None else index[keep]

"""Which system of equations a model's coefficients need, told from counts before any number is computed.

The factor with most coefficients is eliminated in small blocks. What is left for the others and the fixed effects, the
Schur complement, is kept dense, or sparse, or is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Integers
from bayou.conditional.front_layout import Front, new_front
from bayou.formula.words import plural
from bayou.linalg.schur import Border
from bayou.linalg.symbolic import Symbolic
from bayou.sufficient import plan

if TYPE_CHECKING:
    from bayou.conditional.rows import Sorted
    from bayou.model import Model

BLOCKS, DENSE, SPARSE, ITERATIVE, FIELD = "blocks", "dense", "sparse", "iterative", "field"
SMALL = 64  # columns up to which a dense Schur complement is taken unseen
LARGEST_DENSE = 6_000  # columns of a dense Schur complement: 288 MB, and as much again for its inverse
LARGEST_FRONTS = 2e8  # places of all levels' fronts together, beyond which they are not listed: 1.6 GB
LARGEST_FACTOR = 2e8  # numbers of a sparse factor
LONGEST = 2e11  # multiplications of a sparse factorisation
ROW = 100.0  # a pass over one row, in multiplications
SUMS = 2.0  # on sums a descent needs half as many evaluations
LAPACK, SUPERNODES = 10.0, 8.0  # multiplications in the time of one of a sparse column


@dataclass
class Structure:
    """The system of a model's coefficients.

    Attributes
    ----------
    kind
        "blocks" (one grouping factor or none), "dense" or "sparse" (how the Schur complement is kept), "iterative"
        (conjugate gradients: it is not formed), "field" (structured effects: one sparse precision of everything).
    coefficients
        Of all factors and the fixed effects.
    eliminated
        Name of the factor that is eliminated in blocks, its levels and their size; None without factors.
    columns, fixed
        Columns of the Schur complement, and how many of them are fixed effects.
    dense, sparse
        Multiplications of one factorisation of the Schur complement; ``sparse`` is None where it was not analysed.
    symbolic
        The analysis of the sparse factor, where there is one.

    Examples
    --------
    >>> import bayou
    >>> school = bayou.datasets.load("school")
    >>> print(bayou.Model("score ~ ses + (ses | school)", school).structure)
    202 coefficients: 100 levels of school in blocks of 2, then 2 columns in a dense Schur complement of fixed effects.
    """

    kind: str
    coefficients: int
    eliminated: tuple[str, int, int] | None
    columns: int
    fixed: int
    dense: float
    sparse: float | None = None
    symbolic: Symbolic | None = None
    reason: str = ""
    constraints: int = 0
    _fronts: dict[int, Front] = field(default_factory=dict, repr=False)

    def front(self, data: Sorted, n: int) -> Front:
        """Return the layout of fronts over the first n columns of the rest, made once."""
        return self._front(data.arrow.start, data.arrow.touch, data.border, n)

    def _front(self, start: Integers, touch: Integers, border: Border, n: int) -> Front:
        if n not in self._fronts:
            other = next(iter(self._fronts.values()), None)
            order: str | Integers = "minimum_degree"
            if other is not None:
                known = other.symbolic.permutation[: border.fixed]
                order = np.concatenate([known, np.arange(border.fixed, n, dtype=np.int64)])
            self._fronts[n] = new_front(start, touch, border, n, order)
        return self._fronts[n]

    def by_rows(self, n: int) -> bool:
        """Tell whether a Gaussian model of n rows is better off without sums: their Schur complement is dense."""
        if self.kind in (BLOCKS, DENSE):
            return False
        if self.kind == ITERATIVE or self.columns > LARGEST_DENSE:
            return True
        return SUMS * (ROW * n + _sparse_cost(self.symbolic)) < _dense_cost(self.columns)

    def __str__(self) -> str:
        """Say it in a few lines."""
        R = self.columns
        if self.kind == FIELD and self.symbolic is not None:
            s = self.symbolic
            blocks = "dense blocks" if s.supernodal else "columns"
            bound = f" under {plural(self.constraints, 'constraint')}" if self.constraints else ""
            return (
                f"{self.coefficients:,} coefficients{bound}, {self.fixed:,} of them fixed effects: one sparse "
                "precision.\n"
                f"Its factor, minimum degree, by {blocks}: {_count(s.flops)} multiplications, {s.nnz:,} numbers, "
                f"{_bytes(16.0 * s.stored)} with its inverse."
            )
        if self.eliminated is None:
            return f"{R:,} fixed effects: one dense system."
        name, levels, p = self.eliminated
        head = f"{self.coefficients:,} coefficients: {levels:,} levels of {name} in blocks of {p}, then {R:,} columns"
        if self.kind == BLOCKS:
            return f"{head} in a dense Schur complement of fixed effects."
        others = f" ({R - self.fixed:,} of other factors, {self.fixed:,} fixed effects)"
        said = {
            DENSE: "in a dense Schur complement",
            SPARSE: "in a sparse Schur complement",
            ITERATIVE: "by conjugate gradients on a Schur complement that is not formed",
        }[self.kind]
        lines = [f"{head} {said}{others}."]
        lines.append(
            f"A dense factorisation takes {_count(self.dense)} multiplications and {_bytes(8.0 * R * R)} for each "
            "matrix."
        )
        if self.symbolic is not None:
            s = self.symbolic
            blocks = "dense blocks" if s.supernodal else "columns"
            lines.append(
                f"A sparse one, minimum degree, by {blocks}: {_count(s.flops)} multiplications, {s.nnz:,} numbers in "
                f"the factor, {_bytes(16.0 * s.stored)} with its inverse."
            )
        if self.reason:
            lines.append(self.reason)
        return "\n".join(lines)


def _count(x: float) -> str:
    return f"{x:,.0f}" if x < 1e6 else f"{x:.2g}"


def _bytes(x: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if x < 1000.0:
            return f"{x:.3g} {unit}"
        x /= 1000.0
    return f"{x:.3g} GB"


def _dense_cost(R: int) -> float:
    """Return what LAPACK takes, and clearing and copying a matrix, in multiplications of sparse columns."""
    return R**3 / 6.0 / LAPACK + R**2


def _sparse_cost(symbolic: Symbolic | None) -> float:
    if symbolic is None:
        return np.inf
    return symbolic.flops / (SUPERNODES if symbolic.supernodal else 1.0) + 4.0 * symbolic.nnz


def structure(model: Model) -> Structure:
    """Choose the system for a model; `bayou.Model.structure` keeps it."""
    groupings, P = model.design.groupings, len(model.working.mean)
    sizes = [g.Z.shape[1] * len(g.levels) for g in groupings]
    if model.design.structured:
        return _field(model, P)
    if not groupings:
        return Structure(BLOCKS, P, None, P, P, P**3 / 6.0)
    first = int(np.argmax(sizes))
    g = groupings[first]
    R = sum(sizes) - sizes[first] + P
    found = Structure(
        BLOCKS if len(groupings) == 1 else DENSE, sum(sizes) + P, (g.name, len(g.levels), g.Z.shape[1]), R, P,
        R**3 / 6.0,
    )  # fmt: skip
    if len(groupings) > 1 and R > SMALL:
        _decide(found, model)
    return found


def _field(model: Model, P: int) -> Structure:
    from bayou.conditional.field.component import components
    from bayou.conditional.field.layout import lay_out

    made = lay_out(model, components(model), P)
    N, s = made.symbolic.n, made.symbolic
    found = Structure(FIELD, N, None, N, P, N**3 / 6.0, s.flops, s)
    found.constraints = len(made.constraint_rows[3])
    return found


def _decide(found: Structure, model: Model) -> None:
    made = plan(model)
    m = np.diff(made.start).astype(np.float64)
    R = found.columns
    allowed = R <= LARGEST_DENSE
    if m @ (m + 1.0) / 2.0 <= (LARGEST_FRONTS if not allowed else 50.0 * R * R):
        found.symbolic = found._front(made.start, made.touch, made.border, R).symbolic
        found.sparse = found.symbolic.flops
    s = found.symbolic
    fits = s is not None and s.flops <= LONGEST and s.stored <= LARGEST_FACTOR
    if fits and (not allowed or _sparse_cost(s) < _dense_cost(R)):
        found.kind = SPARSE
        return
    found._fronts.clear()
    if not allowed:
        found.kind = ITERATIVE
        found.reason = (
            f"Beyond {LARGEST_DENSE:,} columns no dense matrix is formed, and a sparse factor would hold too many "
            "numbers: log p(y) is estimated, and comes with its standard error."
        )

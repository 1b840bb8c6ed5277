"""The approximation of log p(y | theta) that a model's structure asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayou.conditional.laplace import Laplace
from bayou.conditional.structure import BLOCKS, DENSE, FIELD, ITERATIVE, SPARSE
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.model import Model


def likelihood_of(model: Model, integrated: bool = False, priors: bool = False, kind: str | None = None) -> Laplace:
    """Return the Laplace approximation by dense, sparse or no Schur complement; ``kind`` overrides the choice.

    Raises
    ------
    Unsupported
        If ``kind`` is none.
    """
    chosen = model.structure.kind if kind is None else kind
    if chosen in (BLOCKS, DENSE):
        return Laplace(model, integrated, priors)
    if chosen == SPARSE:
        from bayou.conditional.sparse_laplace import SparseLaplace

        return SparseLaplace(model, integrated, priors)
    if chosen == ITERATIVE:
        from bayou.conditional.iterative_laplace import IterativeLaplace

        return IterativeLaplace(model, integrated, priors)
    if chosen == FIELD:
        raise Unsupported(
            "This works on grouping factors alone; the model has structured effects. Estimates, their standard errors "
            "and Wald tests are there; for intervals of hyperparameters fit with engine='inla' or a sampler."
        )
    raise Unsupported(f"kind={chosen!r}: take 'dense', 'sparse' or 'iterative'.")

"""The approximation of log p(y | theta) that a model's structure asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayou.conditional.laplace import Laplace
from bayou.conditional.structure import BLOCKS, DENSE, FIELD, ITERATIVE, SPARSE
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.model import Model


def in_files(model: Model) -> bool:
    """Return whether the rows of a model were put into files."""
    return model.design.reduced is not None and model.design.reduced.files is not None


def likelihood_of(model: Model, integrated: bool = False, priors: bool = False, kind: str | None = None) -> Laplace:
    """Return the Laplace approximation by dense, sparse or no Schur complement; ``kind`` overrides the choice.

    Raises
    ------
    Unsupported
        If ``kind`` is none.
    """
    if in_files(model):
        from bayou.conditional.blocked import BlockedLaplace

        if integrated:
            raise Unsupported(
                "The restricted likelihood takes rows in memory or in shards, and these lie in files. Give "
                "shards=12, or leave reml=True out: with so many rows the two differ little."
            )
        return BlockedLaplace(model, integrated, priors)
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

"""Latent Gaussian effects: coefficients of groups, smooth curves, seasons, areas, known relationships.

`build` makes the effect of a term of a formula, `of_grouping` that of a block of a grouping factor; both are an
`Effect` (`bayou.effects.base`), which is all that the rest of the library knows of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayou.errors import BayouError, FormulaError

if TYPE_CHECKING:
    from bayou._types import Array
    from bayou.design import Grouping
    from bayou.effects.base import Effect
    from bayou.effects.exchangeable import Exchangeable

__all__ = ["build", "of_grouping"]


def build(term: Any, scale: float = 1.0) -> Effect:
    """Return the effect of a structured term of a design.

    Parameters
    ----------
    term
        A `bayou.design.structured.StructuredTerm`.
    scale
        Of the outcome (its sd for an identity link, else 1): half of it is where the sd starts.

    Raises
    ------
    DataError
        The structure is impossible with these data; the message starts with the term.
    """
    # what needs SciPy is imported when a model has such an effect
    try:
        return _built(term, scale)
    except BayouError as error:
        raise type(error)(f"{getattr(term, 'text', None) or term.name}: {error}") from None


def _built(term: Any, scale: float) -> Effect:
    kind, options = term.kind, term.options
    copies = len(term.replicates)
    if kind in ("rw1", "rw2"):
        from bayou.effects.random_walk import RandomWalk

        cyclic, period = bool(options.get("cyclic", False)), options.get("period")
        scaled, constrained = bool(options.get("scale", True)), bool(options.get("constrained", True))
        return RandomWalk(int(kind[2]), term.coordinate, cyclic, period, scaled, constrained, copies, scale)
    if kind == "ar1":
        from bayou.effects.autoregressive import Autoregressive

        return Autoregressive(term.coordinate, copies, scale)
    if kind == "seasonal":
        from bayou.effects.seasonal import Seasonal

        scaled, constrained = bool(options.get("scale", True)), bool(options.get("constrained", True))
        return Seasonal(term.coordinate, int(options["period"]), scaled, constrained, copies, scale)
    if kind == "s":
        from bayou.effects.spline import Spline

        scaled, constrained = bool(options.get("scale", True)), bool(options.get("constrained", True))
        return Spline(len(term.nodes), int(options.get("order", 2)), scaled, constrained, copies, scale)
    if kind in ("icar", "car", "leroux", "bym2"):
        from bayou.effects.areal import Icar, Neighbourhood, Proximity
        from bayou.effects.bym2 import Bym2

        graph = Neighbourhood(len(term.nodes), term.graph.edges, term.graph.weights)
        if kind in ("car", "leroux"):
            return Proximity(kind, graph, copies, scale)
        made = Icar if kind == "icar" else Bym2
        return made(graph, bool(options.get("scale", True)), copies, scale)
    if kind == "known":
        from bayou.effects.known import Known

        return Known(term.covariance, term.precision, copies, scale)
    raise FormulaError(f"no structured effect is called {kind!r}.")


def of_grouping(grouping: Grouping, block_index: int, scales: Array | None = None) -> Exchangeable:
    """Return the effect of one correlated block of a grouping factor.

    Parameters
    ----------
    grouping
        Of a design.
    block_index
        Which of its blocks.
    scales
        (p,): where the sds of the block start; ones by default.
    """
    from bayou.effects.exchangeable import Exchangeable

    columns = grouping.blocks[block_index]
    return Exchangeable(tuple(grouping.coefficients[k] for k in columns), len(grouping.levels), scales)

"""The pictures of structured effects and of densities, as methods."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from bayou.plot.areas import draw_areas
from bayou.plot.densities import draw_marginals
from bayou.plot.smooths import Scale, draw_smooth
from bayou.plot.style import Picture

if TYPE_CHECKING:
    from bayou.fitting import Fit

__all__ = ["StructuredPlots"]

Path: TypeAlias = str | os.PathLike[str]


class StructuredPlots:
    """Methods of `Plots` for curves, maps and marginal densities."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def smooth(
        self,
        name: str | None = None,
        *,
        scale: Scale = "link",
        interval: float = 0.95,
        limit: int = 20,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw a structured effect of a coordinate as a curve with bands, one panel for each level of ``by``.

        Parameters
        ----------
        name
            Of the effect: ``"t"``, with ``by=g`` ``"t:g"``; None takes the first.
        scale
            ``"link"``: the effect itself, about zero. ``"response"``: the inverse link of the effect with the fixed
            effects at their average row (other effects at zero), over the data.
        interval
            Probability of the wide band; the dark one holds half.
        limit
            The most panels.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            If the model has no such effect.
        Unsupported
            If its draws were not kept.
        """
        return draw_smooth(self._fit.result, name, scale, interval, limit, size, save)

    def areas(
        self,
        name: str | None = None,
        geometry: Any = None,
        *,
        interval: float = 0.95,
        limit: int = 12,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw a map of the effect of areas, one for each level of ``by``.

        Parameters
        ----------
        name
            Of the effect, such as ``"area"``; None takes the first.
        geometry
            A GeoDataFrame with the polygons, whose index (or column of the effect's name) holds the areas. Without it
            the graph itself is drawn, areas near those that they border on.
        interval
            Areas whose interval of this probability does not hold zero are outlined.
        limit
            The most maps.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            If the model has no such effect, or the polygons are not those of its areas.
        Unsupported
            If its draws were not kept.
        """
        return draw_areas(self._fit.result, name, geometry, interval, limit, size, save)

    def marginals(
        self,
        rows: str | Iterable[str] | None = None,
        *,
        interval: float = 0.95,
        limit: int = 12,
        size: tuple[float, float] | None = None,
        save: Path | None = None,
    ) -> Picture:
        """Draw the marginal posterior density of each parameter, its median and its interval.

        Parameters
        ----------
        rows
            Rows of the summary (with ``groups=True``: ``"f_t[3]"`` too), or what they begin with, ``"beta"``; None
            takes the first ``limit``.
        interval
            Probability of the shaded part.
        limit
            The most panels unless they are named.
        size, save
            Inches; a path to write to.

        Raises
        ------
        DataError
            For a parameter that does not exist.
        """
        return draw_marginals(self._fit.result, rows, interval, limit, size, save)

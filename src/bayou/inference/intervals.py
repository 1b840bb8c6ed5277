"""Confidence intervals by any of the three methods, as one frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bayou.errors import DataError
from bayou.inference.bootstrap import Bootstrap, Kind
from bayou.inference.estimated import chosen, estimates_of
from bayou.inference.profile import Profile
from bayou.posterior.summaries import probability

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior import Posterior

__all__ = ["confidence_intervals"]

METHODS = ("wald", "profile", "bootstrap")


def confidence_intervals(
    posterior: Posterior,
    method: str,
    level: float,
    parameters: str | Iterable[str] | None,
    *,
    profile: Callable[[], Profile],
    bootstrap: Callable[[], Bootstrap],
    kind: Kind,
) -> pd.DataFrame:
    """Return intervals of summary rows; see `Fit.confidence_intervals`."""
    import pandas as pd

    found = estimates_of(posterior, "A confidence interval")
    level = probability(level)
    names = chosen(found.rows, parameters)
    notes: tuple[str, ...]
    if method == "wald":
        lower, upper = found.interval(level)
        frame = pd.DataFrame({"lower": lower, "upper": upper}, index=list(found.rows)).loc[names]
        notes = ()
    elif method == "profile":
        made = profile()
        frame, notes = made.interval(level, names), made.notes
    elif method == "bootstrap":
        drawn = bootstrap()
        frame, notes = drawn.interval(level, kind, names), drawn.messages
    else:
        raise DataError(f"method={method!r}: give one of {', '.join(map(repr, METHODS))}.")
    frame.attrs["notes"] = list(notes)
    return frame

"""Draws that are made when somebody looks at them: a fit by likelihood costs no more than its optimisation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from bayou._types import Array
from bayou.errors import BayouError

__all__ = ["DrawnOnDemand"]

DRAWING = threading.RLock()  # one for all: a lock in each would keep results from being copied


class DrawnOnDemand(Mapping[str, Array]):
    """Arrays by name whose shapes are known and whose numbers are drawn, all at once, at first access.

    ``in``, ``keys``, ``len`` and `shapes` draw nothing.

    Parameters
    ----------
    shapes
        The shape of each array, which begins with (chain, draw).
    draw
        Called once without arguments; it returns every array. It holds its own seed, so that the draws do not
        depend on when they are looked at.

    Raises
    ------
    BayouError
        At first access, if ``draw`` returns other names or shapes than were promised.

    Examples
    --------
    >>> import numpy as np
    >>> draws = DrawnOnDemand({"beta": (4, 10, 2)}, lambda: {"beta": np.zeros((4, 10, 2))})
    >>> "beta" in draws, draws.shapes["beta"], draws.drawn
    (True, (4, 10, 2), False)
    >>> draws["beta"].shape, draws.drawn
    ((4, 10, 2), True)
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], draw: Callable[[], Mapping[str, Array]]) -> None:
        self.shapes = dict(shapes)
        self._draw: Callable[[], Mapping[str, Array]] | None = draw
        self._arrays: dict[str, Array] = {}

    @property
    def drawn(self) -> bool:
        """Whether the numbers are there already."""
        return self._draw is None

    def __getitem__(self, key: str) -> Array:
        if key not in self.shapes:
            raise KeyError(key)
        with DRAWING:
            if self._draw is not None:
                self._arrays = self._checked(self._draw())
                self._draw = None  # what it was made from, such as a factorisation, may be freed
        return self._arrays[key]

    def _checked(self, made: Mapping[str, Array]) -> dict[str, Array]:
        arrays = {key: np.asarray(made[key], dtype=np.float64) for key in self.shapes if key in made}
        found = {key: values.shape for key, values in arrays.items()}
        if found != self.shapes or len(made) != len(arrays):
            raise BayouError(
                f"The draws are not those that were promised: {self.shapes} was, "
                f"{ {key: np.shape(v) for key, v in made.items()} } was drawn."
            )
        return arrays

    def __contains__(self, key: object) -> bool:
        return key in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __repr__(self) -> str:
        return f"DrawnOnDemand({self.shapes}, {'drawn' if self.drawn else 'not drawn yet'})"

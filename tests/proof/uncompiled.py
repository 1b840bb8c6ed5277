"""The kernels as plain Python, and a generator whose numbers are written beforehand.

What a kernel draws becomes a function of the numbers that its generator returns, so that one can ask it exactly,
without a sample: which density has the number drawn, and at which ratio does acceptance turn into rejection.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray
MODULES = (
    "sufficient",
    "engines.covariances",
    "engines.moves",
    "engines.centring",
    "engines.lmm.state",
    "engines.lmm.coefficients",
    "engines.lmm.whitened",
    "engines.lmm.collapsed",
    "engines.lmm.scan",
    "engines.glmm.regression",
    "engines.glmm.groups",
    "engines.glmm.state",
    "engines.glmm.nested",
    "engines.glmm.population",
    "engines.glmm.whitened",
    "engines.glmm.carried",
    "engines.glmm.scan",
    "linalg.small",
    "linalg.schur",
    "effects.iid",
    "families.rows",
)


def _plain(function: Callable[..., Any] | None = None, **options: bool) -> Any:
    return function if function is not None else (lambda f: f)


def _window(array: Array, at: int, n: int) -> Array:
    if not 0 <= at <= at + n <= array.size:
        raise IndexError(f"{n} elements from {at} on of an array of {array.size}")
    return array.reshape(-1)[at : at + n]


def load() -> dict[str, Any]:
    """Import the kernels a second time, without the compiler, beside the package that is in use."""
    own = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "bayou"}
    for name in own:
        del sys.modules[name]
    try:
        package = importlib.import_module("bayou")
        jit: Any = ModuleType("bayou.jit")
        jit.kernel, jit.window = _plain, _window
        sys.modules["bayou.jit"] = package.jit = jit  # type: ignore[attr-defined]
        return {name: importlib.import_module(f"bayou.{name}") for name in MODULES}
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "bayou"]:
            del sys.modules[name]
        sys.modules.update(own)


class UsedUp(Exception):
    """The script has no further number of the kind asked for."""


class Script:
    """A generator that reads its numbers from lists; shapes asked of `standard_gamma` are kept."""

    def __init__(
        self,
        normals: Iterable[float] = (),
        exponentials: Iterable[float] = (),
        gammas: Iterable[float] = (),
        uniforms: Iterable[float] = (),
        holds: int = 0,
    ) -> None:
        self.normals, self.exponentials, self.gammas = list(normals), list(exponentials), list(gammas)
        self.uniforms = list(uniforms)
        self.shapes: list[float] = []
        # so many slice updates come first that find no candidate, and leave their number as it is
        self.holds, self.holding = holds, False

    @staticmethod
    def _next(numbers: list[float], kind: str) -> float:
        if not numbers:
            raise UsedUp(kind)
        return float(numbers.pop(0))

    def standard_normal(self) -> float:
        return self._next(self.normals, "normal")

    def standard_exponential(self) -> float:
        self.holding = self.holds > 0
        if self.holding:
            self.holds -= 1
            return -1e9
        return self._next(self.exponentials, "exponential")

    def standard_gamma(self, shape: float) -> float:
        self.shapes.append(float(shape))
        return self._next(self.gammas, "gamma")

    def random(self) -> float:
        return 0.5 if self.holding else self._next(self.uniforms, "uniform")


ACCEPT, REJECT = float("inf"), float("-inf")  # exponentials that decide whatever the ratio


def turning_points(ratios: Sequence[float], size: float = 1.0) -> tuple[list[float], list[float]]:
    """Exponentials with which proposals of these log ratios are accepted by a hair, and rejected by a hair.

    The hair is 1e-9, relative to the ratio or to the size of the numbers that it is the difference of.
    """
    margins = [1e-9 * max(1.0, abs(r), size) for r in ratios]
    just = [-r + m for r, m in zip(ratios, margins, strict=True)]
    just_not = [-r - m for r, m in zip(ratios, margins, strict=True)]
    return just, just_not


def check_slice(
    run: Callable[[Script], float],
    log_density: Callable[[float], float],
    x: float,
    width: float,
    rng: np.random.Generator,
    before: Sequence[float] = (),
    holds: int = 0,
    floor: float = -np.inf,
) -> bool:
    """Hold one slice update from x to Neal's scheme for this density: stepping out by ``width``, shrinking, level.

    A candidate is chosen within the slice; with a level just below its density it is taken, with one just above it
    is not: the kernel asks for another one. ``run`` returns where the update ended; a kernel that goes on to another
    update asks for its exponential. ``holds`` updates come before it.

    Returns False, with nothing checked, if the interval goes below ``floor``, where the slow density loses digits.
    """

    def end(script: Script) -> float | None:
        try:
            return run(script)
        except UsedUp as asked:
            assert str(asked) == "uniform"
            return None

    first = rng.random()
    here = log_density(x)
    for _ in range(200):
        candidate = x + width * (2.0 * rng.random() - 1.0) * 10.0 ** (-2.0 * rng.random())
        there = log_density(candidate)
        drop = here - there
        if np.isfinite(there) and drop > 1e-6:
            break
    else:
        raise AssertionError("no candidate downhill of the starting point")
    margin = 1e-9 * max(1.0, abs(here), abs(there))
    low = x - width * first
    high = low + width
    for _ in range(30):
        if not log_density(low) > here - drop:
            break
        low -= width
    for _ in range(30):
        if not log_density(high) > here - drop:
            break
        high += width
    if low < floor:
        return False
    if not low < candidate < high:  # beyond an end that was found first: take another one
        return check_slice(run, log_density, x, width, rng, before, holds, floor)
    uniforms = [*before, first, (candidate - low) / (high - low)]
    ended = end(Script(exponentials=[drop + margin], uniforms=uniforms, holds=holds))
    assert ended is not None, "a candidate above the level was not taken"
    np.testing.assert_allclose(ended, candidate, rtol=1e-9, atol=1e-9)
    ended = end(Script(exponentials=[drop - margin], uniforms=uniforms, holds=holds))
    assert ended is None, f"a candidate below the level was taken: {ended}"
    return True

"""One file per rival program. Each has

- ``NAME``, for the table,
- ``PROBLEMS``, the names of the problems that it takes,
- ``available()``: None, or a sentence that says what is missing,
- ``run(problem, scans, seed)``: one call, as an `Outcome`; ``scans`` is None for its usual length.

A rival may also have ``REPEATS`` (1 by default).
"""

from __future__ import annotations

from types import ModuleType

from benchmarks.rivals import bambi_nutpie, bambi_pymc, hoff_numpy, jags, slides_r

RIVALS: tuple[ModuleType, ...] = (slides_r, hoff_numpy, jags, bambi_nutpie, bambi_pymc)

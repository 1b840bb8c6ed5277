"""One file per rival program. Each has

- ``NAME``, for the table,
- ``PROBLEMS``, the names of the problems that it takes,
- ``available()``: None, or a sentence that says what is missing,
- ``run(problem, scans, seed)``: one call, as an `Outcome`; ``scans`` is None for its usual length; or, of those that
  maximise a likelihood, ``maximise(problem, seconds, minutes)``: what it took and reached, as a `Maximum`.

What the rivals run in their own environments, be it Python or R, is in the folder ``programs``; a rival raises
`benchmarks.outside.Stopped` when its program fails or passes a limit.
"""

from __future__ import annotations

from types import ModuleType

from benchmarks.rivals import (
    bambi_nutpie,
    bambi_pymc,
    brms,
    glmm,
    glmmtmb,
    gpboost,
    hoff_numpy,
    jags,
    lme4,
    lme_python,
    mcmcglmm,
    mcmcpack,
    mixedlm,
    numpyro,
    rstanarm,
    slides_r,
    statsmodels,
)

RIVALS: tuple[ModuleType, ...] = (
    slides_r, hoff_numpy, jags, mcmcpack, mcmcglmm, rstanarm, brms, bambi_nutpie, bambi_pymc, numpyro,
)  # fmt: skip
MAXIMISERS: tuple[ModuleType, ...] = (lme4, glmmtmb, glmm, mixedlm, lme_python, gpboost, statsmodels)

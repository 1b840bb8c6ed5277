"""A small sound table to which one thing is done, and short fits of it."""

import numpy as np
import pandas as pd

import bayou

N = 40
RNG = np.random.default_rng(1)
SOUND = pd.DataFrame(
    {
        "y": RNG.normal(size=N), "x": RNG.normal(size=N), "g": np.repeat(list("abcdefgh"), 5), "i": np.arange(N),
        "k": RNG.poisson(3, N) + 1, "size": 12, "w": 1.0, "t": np.tile(list("uvwz"), 10), "half": np.tile([0, 1], 20),
    }
)  # fmt: skip


def having(**columns):
    return SOUND.assign(**columns)


def put(column, row, value):
    """The sound data with one value changed."""
    kind = float if isinstance(value, float) else object
    return having(**{column: [value if i == row else v for i, v in enumerate(SOUND[column].astype(kind))]})


def fit(formula="y ~ x + (1 | g)", data=SOUND, family="gaussian", priors=None, **settings):
    return bayou.fit(formula, data, family, priors, seed=1, draws=30, warmup=30, chains=2, progress=False, **settings)


def nul_ends_text():
    """Whether this pandas takes a NUL for the end of a text, as those before 3.1 do."""
    return len(pd.unique(pd.Series(["a", "a\0"], dtype=object))) == 1

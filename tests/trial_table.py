"""A small table with every kind of column, for the tests of the design."""

import numpy as np
import pandas as pd


def trial_table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 24
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n) + 3.0,
            "z": rng.normal(size=n),
            "g": np.repeat(["d", "a", "c", "b"], 6),
            "h": np.tile([10, 9, 2], 8),
            "arm": np.tile(["control", "drug"], 12),
            "count": rng.poisson(3.0, n),
            "trials": rng.poisson(3.0, n) + 12,
            "e": rng.uniform(1.0, 2.0, n),
        }
    )

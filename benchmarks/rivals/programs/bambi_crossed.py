"""Two crossed factors by bambi with nutpie, bambi's own priors; runs in bambi's own environment."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import bambi  # type: ignore[import-not-found]
import numpy as np
import nutpie
import pandas as pd

logging.disable(logging.WARNING)
source, target, tune, draws, watched = sys.argv[1], sys.argv[2], *(int(a) for a in sys.argv[3:6])
given = np.load(source)
frame = pd.DataFrame({"y": given["y"], "g": given["g"].astype(str), "h": given["h"].astype(str)})
took: list[float] = []


def sample(*arguments: Any, whole: Any = nutpie.sample, **settings: Any) -> Any:
    # bambi compiles and samples by two calls of nutpie's: the second is what is measured
    before = time.process_time()
    result = whole(*arguments, **settings)
    took.append(time.process_time() - before)
    return result


nutpie.sample = sample
model = bambi.Model("y ~ 1 + (1 | g) + (1 | h)", frame)
settings = {"draws": draws, "tune": tune, "chains": 1, "cores": 1, "random_seed": 1, "progressbar": False}
result = model.fit(inference_method="nutpie", **settings)
posterior = result.posterior
numbers = [posterior[name].values[0] for name in ("Intercept", "1|g_sigma", "1|h_sigma", "sigma")]
b = np.concatenate([posterior[name].values[0].reshape(draws, -1) for name in ("1|g", "1|h")], axis=1)
some = np.sort(np.random.default_rng(0).permutation(b.shape[1])[:watched])
np.savez(target, numbers=np.column_stack(numbers), b=b[:, some])
divergences = int(np.asarray(result.sample_stats["diverging"]).sum())
print(json.dumps({"seconds": took[-1], "divergences": divergences}))

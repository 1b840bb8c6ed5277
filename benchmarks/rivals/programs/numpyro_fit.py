"""The model written out in numpyro, group coefficients not centred; runs in numpyro's own environment."""

from __future__ import annotations

import json
import time
from typing import Any

started = time.perf_counter()
import jax  # type: ignore[import-not-found]  # noqa: E402
import jax.numpy as jnp  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
import numpyro  # type: ignore[import-not-found]  # noqa: E402
import numpyro.distributions as dist  # type: ignore[import-not-found]  # noqa: E402
import pandas as pd  # noqa: E402
from numpyro.infer import NUTS, init_to_median  # type: ignore[import-not-found]  # noqa: E402

importing = time.perf_counter() - started
numpyro.enable_x64()


def half_t(df: float, scale: Any) -> Any:
    return dist.FoldedDistribution(dist.StudentT(df, 0.0, scale))


def model(X: Any, codes: dict[str, Any], y: Any, trials: Any) -> None:
    widths, centre = jnp.asarray(task["widths"]), jnp.asarray(task["centre"])
    # the intercept's prior holds at the columns' means
    level = numpyro.sample("level", dist.Normal(task["level"], widths[0]))
    slopes = numpyro.sample("slopes", dist.Normal(0.0, widths[1:]).to_event(1))
    numpyro.deterministic("beta0", level - centre[1:] @ slopes)
    eta = level + (X[:, 1:] - centre[1:]) @ slopes
    for group in task["groups"]:
        g, p = group["column"], len(group["scales"])
        sd = numpyro.sample(f"sd_{g}", half_t(2.0, jnp.asarray(group["scales"])).to_event(1))
        z = numpyro.sample(f"z_{g}", dist.Normal(0.0, 1.0).expand([group["levels"], p]).to_event(2))
        if p > 1:
            # LKJ(1): with half-t(2) sds the margins of bayou's Huang-Wand prior
            root = numpyro.sample(f"root_{g}", dist.LKJCholesky(p, 1.0))
            z = z @ root.T
        b = z * sd
        columns = jnp.stack([X[:, int(x[1:])] for x in group["slopes"]], axis=1) if p > 1 else None
        at = b[codes[g]]
        eta = eta + at[:, 0] + (0.0 if columns is None else (at[:, 1:] * columns).sum(axis=1))
    if task["family"] == "gaussian":
        sigma = numpyro.sample("sigma", half_t(3.0, task["sigma_scale"]))
        numpyro.sample("y", dist.Normal(eta, sigma), obs=y)
    elif task["family"] == "poisson":
        numpyro.sample("y", dist.Poisson(jnp.exp(eta)), obs=y)
    else:
        numpyro.sample("y", dist.Binomial(total_count=trials, logits=eta), obs=y)


def compiled(kernel: Any, state: Any) -> Any:
    """Compile one chain ahead of its run, so that the two can be told apart; group coefficients are not kept."""

    def chain(state: Any, *arguments: Any) -> Any:
        def draw(state: Any, _: None) -> Any:
            state = kernel.sample(state, arguments, {})
            values = kernel.postprocess_fn(arguments, {})(state.z)
            return state, ({k: v for k, v in values.items() if not k.startswith("z_")}, state.diverging)

        state, _ = jax.lax.scan(lambda s, _: (kernel.sample(s, arguments, {}), None), state, length=task["warmup"])
        return jax.lax.scan(draw, state, length=task["draws"])[1]

    return jax.jit(chain).lower(state, *arguments).compile()


with open("task.json", encoding="utf-8") as file:
    task = json.load(file)
data = pd.read_csv("data.csv")
X = np.column_stack([np.ones(len(data)), *[data[f"x{k}"] for k in range(1, len(task["widths"]))]])
codes = {group["column"]: jnp.asarray(data[group["column"]].to_numpy() - 1) for group in task["groups"]}
arguments = (jnp.asarray(X), codes, jnp.asarray(data["y"].to_numpy()), jnp.asarray(data["trials"].to_numpy()))
begun = time.perf_counter()
# its usual start, uniform on the scale of the logarithm, leaves 20,000 group coefficients where it cannot move
kernel = NUTS(model, init_strategy=init_to_median)
keys = jax.random.split(jax.random.PRNGKey(task["seed"]), task["chains"])
states = [kernel.init(key, task["warmup"], None, arguments, {}) for key in keys]
chain = compiled(kernel, states[0])
compiling = time.perf_counter() - begun
wall, processor = time.perf_counter(), time.process_time()
chains = [jax.block_until_ready(chain(state, *arguments)) for state in states]
wall, processor = time.perf_counter() - wall, time.process_time() - processor

draws = {name: np.concatenate([np.asarray(kept[name]) for kept, _ in chains]) for name in chains[0][0]}
named = {"chain": np.repeat(np.arange(task["chains"]), task["draws"]), "beta0": draws["beta0"]}
named |= {f"beta{k + 1}": draws["slopes"][:, k] for k in range(X.shape[1] - 1)}
for group in task["groups"]:
    g, p = group["column"], len(group["scales"])
    named |= {f"sd_{g}_{k}": draws[f"sd_{g}"][:, k] for k in range(p)}
    if p > 1:
        root = draws[f"root_{g}"]
        correlations = root @ np.swapaxes(root, 1, 2)
        named |= {f"cor_{g}_{i}_{k}": correlations[:, i, k] for k in range(p) for i in range(k)}
if "sigma" in draws:
    named["sigma"] = draws["sigma"]
pd.DataFrame(named).to_csv("draws.csv", index=False)
took: dict[str, Any] = {"importing": importing, "compiling": compiling, "wall": wall, "processor": processor}
divergences = sum(int(np.asarray(diverging).sum()) for _, diverging in chains)
if divergences:
    took["note"] = f"{divergences} divergences"
pd.DataFrame({"what": list(took), "value": list(took.values())}).to_csv("took.csv", index=False)

"""NUTS held to the exact posteriors beside the repository: means within 4 Monte Carlo standard errors and .05 sd.

Every number of a model is compared, coefficients of groups too; sds within 4 of their errors or 5 %. `-s` prints tables.
"""

from functools import cache

import numpy as np
import pytest

import exact_models as exacts
from agreement import ENOUGH, agree, errors
from bayou.engines import NUTS
from bayou.engines.hamiltonian import adapter
from golden import ok

DRAWS = {
    "rats": 10_000,
    "eight_schools": 15_000,
    "GLMM_Poisson": 20_000,
    "surgical": 15_000,
    "seeds_stanified": 20_000,
    "seeds_model": 20_000,
}
LONG = NUTS(warmup=1_000, chains=4, target_accept=0.9, progress=False)


@cache
def fitted(model, **settings):
    return model.fit(LONG, seed=6, **settings)


def compare(shared, name):
    this, known = exacts.EXACT[name], exacts.summary(shared, name)
    fit = fitted(exacts.exact(shared, name), draws=DRAWS[name])
    result = fit.result
    quantities = {theirs: np.asarray(result.values(result.rows[ours])) for theirs, ours in this.rows.items()}
    for theirs, variable in this.effects.items():
        for k, level in enumerate(fit.model.design.groupings[0].levels):
            quantities[f"{theirs}[{int(level)}]"] = result.draws[variable][:, :, k, 0]
    print(f"\n{name}: {int(result.statistics['diverging'].sum())} divergences, {result.info['seconds']:.1f} s")
    for key, values in quantities.items():
        size, error, _ = errors(values)
        mean, sd = known[key]["mean"], known[key]["sd"]
        print(
            f"  {key:14s} {values.mean():10.4f} ({values.std():.4f})  exact {mean:10.4f} ({sd:.4f})  "
            f"{(values.mean() - mean) / error:+.1f} standard errors, {size:,.0f} effective draws"
        )
    for key, values in quantities.items():
        agree(values, known[key]["mean"], known[key]["sd"], key, enough=ENOUGH)
    return fit


@pytest.mark.parametrize("name", DRAWS)
def test_exact_posteriors(shared, name):
    ok(compare(shared, name))


def test_eight_schools_without_divergences(shared):
    """As it comes, with three seeds."""
    for seed in (1, 2, 3):
        fit = exacts.exact(shared, "eight_schools").fit("nuts", seed=seed)
        assert fit.result.statistics["diverging"].sum() == 0
        ok(fit)


def test_python_calls_have_the_same_posterior(shared, monkeypatch):
    monkeypatch.setattr(adapter, "takes_pointers", lambda: False)
    known = exacts.summary(shared, "eight_schools")
    model = exacts.exact(shared, "eight_schools")
    fit = model.fit(NUTS(draws=3_000, warmup=500, progress=False), seed=2)
    for theirs, ours in exacts.EXACT["eight_schools"].rows.items():
        values = np.asarray(fit.result.values(fit.result.rows[ours]))
        agree(values, known[theirs]["mean"], known[theirs]["sd"], theirs, enough=1_000)

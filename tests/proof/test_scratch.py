"""What lies in the scratch of a chain does not matter: spoiled before every scan, it draws what it drew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayou.engines import Gibbs, Metropolis
from bayou.model import Model
from proof.models import STRUCTURES, build

WARMUP, SCANS = 120, 12
ONE_ROW_WEIGHT = [name for name in STRUCTURES if not STRUCTURES[name][1] and name != "measured"]
GIBBS = ["collapsed", "blocked", "marginal", "centered", "uncentered", "crossed", "joint"]
KEPT = ("shift",)  # zero where fixed effects stay


def arrays(of: Any) -> list[np.ndarray]:
    """All arrays of numbers of a tuple of tuples."""
    found: list[np.ndarray] = []
    for name, value in zip(of._fields, of, strict=True):
        if hasattr(value, "_fields"):
            found += arrays(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and name not in KEPT:
            found.append(value)
    return found


def spoil(chain: Any) -> None:
    """Fill a state with NaN, all but what it has of the target's numbers."""
    constant = arrays(chain.target)
    for state in [one.parts for one in chain.states] if hasattr(chain, "states") else [chain.state]:
        known = [state.sigma] if getattr(chain.target, "sigma_known", False) else []
        for values in arrays(state):
            if not any(np.shares_memory(values, one) for one in constant + known):
                values.fill(np.nan)


def warm(model: Model, engine: Gibbs | Metropolis) -> tuple[Any, Any]:
    plan = engine.prepare(model)
    chain: Any = plan.new_chain(np.random.default_rng(3))
    scan = 0
    while scan < WARMUP:
        size = min(chain.boundary(scan), WARMUP) - scan
        assert chain.advance(size, 1, plan.shape(size, False)) == size
        scan += size
        chain.adapt(scan, WARMUP)
    return plan, chain


def drawn(model: Model, engine: Gibbs | Metropolis, spoiled: bool) -> np.ndarray:
    """Return all that some scans draw, each begun from a snapshot."""
    plan, chain = warm(model, engine)
    found = []
    for _ in range(SCANS):
        if spoiled:
            snapshot = chain.snapshot()
            spoil(chain)
            chain.restore(snapshot)
        out = plan.shape(1, True)
        assert chain.advance(1, 1, out) == 1
        found.append(np.concatenate([values.ravel() for values in plan.finish([out]).values()]))
    return np.array(found)


def same(model: Model, engine: Gibbs | Metropolis) -> None:
    np.testing.assert_array_equal(drawn(model, engine, True), drawn(model, engine, False))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("parameterization", GIBBS)
def test_gibbs(parameterization: str, structure: str) -> None:
    same(build(structure), Gibbs(parameterization=parameterization))


@pytest.mark.parametrize(
    ("structure", "family"),
    [(structure, "gaussian") for structure in STRUCTURES]
    + [(structure, family) for structure in ONE_ROW_WEIGHT for family in ("poisson", "negative_binomial")],
)
@pytest.mark.parametrize("proposal", ["laplace", "random_walk"])
def test_metropolis(proposal: str, structure: str, family: str) -> None:
    same(build(structure, family), Metropolis(proposal=proposal))

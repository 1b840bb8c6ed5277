"""Shifts between crossed factors, exactly: the sweep that follows draws all coefficients anew, and hides from Geweke's
test what is wrong with their noise."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from bayou.engines.crossed.choice import lay_out_state
from bayou.engines.crossed.layout import Crossed, crossed
from bayou.model import Model
from proof import uncompiled
from proof.crossed_models import build
from proof.uncompiled import Script

Array = np.ndarray
Translate = Callable[[Any, Any, float, Any], None]
MODELS = ("two factors", "two parts", "three factors", "slope", "slopes of two")
BUGS = {
    "pulls away from its mean": ("shifts[pairs.part[pairs.at_one[n] + j]] -= t", "shifts[pairs.part[pairs.at_one[n] + j]] += t"),
    "both factors gain": ("b[target.at_b[g] + j * q + m] -= shifts", "b[target.at_b[g] + j * q + m] += shifts"),
    "the prior of the other factor forgotten": (" + pairs.other_count[at] * state.Q[g, m, m]", ""),
    "no noise": ("+ noise * rng.standard_normal() / math.sqrt(precise[c])", "+ 0.0 * rng.standard_normal()"),
    "the noise of a precision": ("/ math.sqrt(precise[c])", "* math.sqrt(precise[c])"),
    "the last level does not move": ("for j in range(target.levels[f]):\n            b[", "for j in range(target.levels[f] - 1):\n            b["),
    "other columns of the level forgotten": ("t += state.Q[f, i, e] * b", "t += (e == i) * state.Q[f, i, e] * b"),
}  # fmt: skip


@pytest.fixture(scope="module")
def translate() -> Translate:
    """The kernel as plain Python."""
    usual = uncompiled.MODULES
    uncompiled.MODULES = (*usual, "engines.crossed.sweep")  # type: ignore[assignment]
    try:
        return uncompiled.load()["engines.crossed.sweep"].translate
    finally:
        uncompiled.MODULES = usual


def seeded(translate: Any, old: str, new: str) -> Translate:
    """The kernel with a bug in it."""
    source = inspect.getsource(translate)
    assert source.count(old) == 1, f"{source.count(old)} places read {old!r}: seed this bug anew"
    names = dict(translate.__globals__)
    exec(source.replace(old, new), names)
    return names["translate"]


def drawn(model: Model, translate: Translate, rng: np.random.Generator) -> tuple[Array, Array]:
    """Coefficients after shifts of random ones at random precisions: by the kernel, and from its definition."""
    target, rows = crossed(model)
    state = lay_out_state(model, target, 1.0)
    state.b[:] = rng.normal(size=len(state.b))
    for Q, p in zip(state.Q, target.sizes, strict=True):
        root = rng.normal(size=(p, p + 1))
        Q[:p, :p] = root @ root.T
    normals = rng.normal(size=int(target.translations.parts.sum()))
    expected = by_definition(model, target, rows.order, state.b.copy(), state.Q, list(normals))
    script = Script(normals=normals)
    translate(target, state, 1.0, script)
    assert not script.normals
    return state.b, expected


def by_definition(
    model: Model, target: Crossed, order: tuple[int, ...], b: Array, Q: Array, normals: list[float]
) -> Array:
    """Along each direction d that no row sees, the prior of b leaves N(−d'Qb / d'Qd, 1 / d'Qd) to its length."""
    used = [model.design.groupings[g] for g in order]
    whole = scipy.linalg.block_diag(
        *(np.kron(np.eye(J), Q[k, :p, :p]) for k, (J, p) in enumerate(zip(target.levels, target.sizes, strict=True)))
    )
    Z = np.zeros((model.design.n, len(b)))
    for k, g in enumerate(used):
        for i in range(target.sizes[k]):
            Z[np.arange(len(Z)), target.at_b[k] + g.codes * target.sizes[k] + i] = g.Z[:, i]
    for f in range(len(used)):
        for g in range(f + 1, len(used)):
            J, K = len(used[f].levels), len(used[g].levels)
            edges = scipy.sparse.coo_matrix((np.ones(len(Z)), (used[f].codes, J + used[g].codes)), shape=(J + K, J + K))
            parts, part = connected_components(edges, directed=False)
            for name in used[f].coefficients:
                if name not in used[g].coefficients:
                    continue
                i, m = used[f].coefficients.index(name), used[g].coefficients.index(name)
                for c in range(parts):
                    d = np.zeros(len(b))
                    d[target.at_b[f] + np.flatnonzero(part[:J] == c) * target.sizes[f] + i] = 1.0
                    d[target.at_b[g] + np.flatnonzero(part[J:] == c) * target.sizes[g] + m] = -1.0
                    np.testing.assert_allclose(Z @ d, 0.0, atol=1e-14)
                    precision = d @ whole @ d
                    b = b + (normals.pop(0) / np.sqrt(precision) - d @ whole @ b / precision) * d
    return b


@pytest.mark.parametrize("name", MODELS)
def test_shifts_given_the_rest(name: str, translate: Translate, rng: np.random.Generator) -> None:
    for _ in range(20):
        found, expected = drawn(build(name), translate, rng)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_seen(bug: str, translate: Translate, rng: np.random.Generator) -> None:
    wrong = seeded(translate, *BUGS[bug])
    found, expected = drawn(build("slopes of two"), wrong, rng)
    assert np.abs(found - expected).max() > 1e-3

"""The samplers of crossed factors under Geweke's joint-distribution test, and bugs in them that it has to see.

Some forty functions of parameters and data for each model, z within Bonferroni's bound at 0.001 for all of a model
together. A short chain each here, and long ones marked slow; `crossed_mutants` holds the bugs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oracle
from bayou.engines.crossed.layout import crossed
from bayou.engines.crossed.theta import MOST
from proof.crossed_models import KINDS, MODELS, Altered, Scan, bound, build, functions, prior_of, z_scores
from proof.crossed_mutants import BUGS, Bug, geweke, seeded
from proof.geweke import Successive, standard_error, worst

SHORT, LONG = 3_000, 20_000
SEEN = 10_000  # scans after which every bug is seen


def check(model: str, kind: str, sweeps: int) -> None:
    z = z_scores(build(model), Scan(kind), sweeps)
    assert len(z) >= 30
    name, value = worst(z)
    assert abs(value) < bound(z), f"{name}: z = {value:.1f}"


# ---- the test of the test -----------------------------------------------------------------------


def test_the_models_take_every_way_through_the_kernels() -> None:
    made = {name: crossed(build(name)) for name in MODELS}
    target = {name: one for name, (one, _) in made.items()}
    assert len(target["two factors"].W) and not len(target["two factors, a row a pair"].W)
    assert list(target["two parts"].translations.parts) == [2]
    assert list(target["slopes of two"].translations.parts) == [1, 1]
    assert len(target["three factors"].translations.parts) == 3
    assert len(target["no column in common"].translations.parts) == 0
    assert (target["two factors"].at_alike >= 0).all() and (target["many fixed effects"].at_alike < 0).all()
    assert target["two sigmas"].by_level and target["measured"].sigma_known
    for name in ("wide", "wide, Huang-Wand", "wide, sds"):
        assert target[name].blocks.size.max() * (target[name].blocks.size.max() + 1) // 2 > MOST
    for name in ("two parts", "slope"):
        plan = Scan("plain").prepare(build(name))
        assert len(plan.new_chain(np.random.default_rng(1)).target.translations.parts) == 0  # type: ignore[attr-defined]


def test_what_is_known_of_the_functions_holds_under_the_prior() -> None:
    """Squares over their variances are one in the mean, products of what is independent zero."""
    for name in ("three factors", "slope", "wide"):
        found = functions(build(name), prior_of(build(name), 8_000, np.random.default_rng(2)))
        for function, x in found.items():
            if function.split()[-1].startswith(("z²", "e²")) or function.startswith("sum² z"):
                assert abs(x.mean() - 1.0) < 4.5 * standard_error(x), function
            if function in ("sum e", "e x", "sum z0 sum z1", "z z0 - cor", "e z0"):
                assert abs(x.mean()) < 4.5 * standard_error(x), function


@pytest.mark.parametrize("name", ["two factors", "weights", "two sigmas", "slope", "measured"])
def test_new_data_reach_the_sums(name: str, rng: np.random.Generator) -> None:
    """The sums of a chain whose data are overwritten are those of a new chain."""
    mine = Successive(build(name), Scan("crossed"), rng, keep_data=True)  # type: ignore[arg-type]
    y = rng.normal(size=mine.model.design.n)
    y += mine.model.design.y.mean() - y.mean()  # the same constant is taken off the response
    mine.respond(y)
    fresh, _ = crossed(oracle.clone(mine.model, y))
    for part in ("A", "a", "B", "D", "d", "squares", "rows"):
        one, two = getattr(mine.chain.target, part), getattr(fresh, part)
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12, err_msg=part)


# ---- the samplers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["two factors", "three factors", "slope"])
def test_short(model: str, kind: str) -> None:
    check(model, kind, SHORT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_precisions_are_those_of_the_covariances(model: str, kind: str) -> None:
    """After a sweep, whatever drew the covariances last: a joint draw takes both."""
    plan = Scan(kind).prepare(build(model))
    chain: Any = plan.new_chain(np.random.default_rng(4))
    blocks = chain.target.blocks
    for _ in range(20):
        assert chain.advance(1, 1, plan.shape(1, True)) == 1
        for k, p in enumerate(chain.target.sizes):
            Q = np.zeros((p, p))
            for r in np.flatnonzero(blocks.grouping == k):
                s, q = blocks.start[r], blocks.size[r]
                L = np.tril(chain.state.L[r, :q, :q])
                Q[s : s + q, s : s + q] = np.linalg.inv(L @ L.T)
            np.testing.assert_allclose(chain.state.Q[k, :p, :p], Q, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_long(model: str, kind: str) -> None:
    check(model, kind, LONG)


# ---- seeded bugs --------------------------------------------------------------------------------


WRONG: dict[str, tuple[str, Altered]] = {
    "half the rows in the density of sigma": ("two factors", Altered("crossed", {"rows": 0.5})),
    "a prior of the fixed effects around zero": ("two factors", Altered("plain", {"linear": 0.0})),
    "half the levels of a class": ("three factors", Altered("plain", {"alike_levels": 0.5})),
    "half the levels of a part": ("no fixed effects", Altered("crossed", {}, {"one_count": 0.5, "other_count": 0.5})),
    "no noise of the fixed effects' prior": ("many fixed effects", Altered("joint", {}, {}, {"prior": 0.0})),
    "no noise of the rows within an entry": ("few pairs", Altered("joint", {}, {}, {"within": 0.0})),
    "solves that stop at once": ("slopes of two", Altered("joint", {}, {}, {"tolerance": 3e5})),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_numbers_are_seen(name: str) -> None:
    """Bugs in what the kernels are handed, not in them: no compilation, and short chains are enough."""
    model, scan = WRONG[name]
    z = z_scores(build(model), scan, 2 * SHORT)
    assert abs(worst(z)[1]) > bound(z), worst(z)


def test_every_bug_has_its_place(tmp_path: Path) -> None:
    """The source that a bug changes is found exactly once: this fails when the code has moved."""
    for number, bug in enumerate(BUGS):
        folder = seeded(tmp_path / str(number), bug)
        assert bug.new in (folder / "bayou" / bug.mutant().file).read_text("utf-8")
        assert bug.model in MODELS and bug.kind in KINDS
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 12
    assert {bug.kind for bug in BUGS} == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crossed", "joint"])
def test_the_package_as_it_is_passes_there_too(kind: str, tmp_path: Path) -> None:
    """What fails below fails for the bug: the same processes pass without one."""
    z = geweke(seeded(tmp_path, None), "two factors", kind, SEEN)
    name, value = worst(z)
    assert abs(value) < bound(z), f"{name}: z = {value:.1f}"


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_geweke_sees(bug: Bug, tmp_path: Path) -> None:
    z = geweke(seeded(tmp_path, bug), bug.model, bug.kind, SEEN)
    name, value = worst(z)
    assert abs(value) > bound(z), f"{name}: z = {value:.1f}"

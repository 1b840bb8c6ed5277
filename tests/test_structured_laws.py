"""What must not matter to log p(y | theta) of a model with structured effects: order, labels, merged rows, units.

Each law compares `Field.value` of two descriptions of one model, to 1e-8.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayou.conditional.field import Field
from bayou.model import Model
from bayou.priors import Normal
from field_models import AREAS, FAMILIES, STRUCTURES, structures, table

CLOSE = 1e-8
PROPER = {"beta": Normal(0.0, 3.0)}
RESPONSES = {
    "gaussian": "y",
    "bernoulli": "y",
    "binomial": "proportion(y, trials)",
    "poisson": "y",
    "negative_binomial": "y",
    "gamma": "y",
}


def given(formula: str, objects: dict[str, Any] | None = None) -> dict[str, Any] | None:
    used = {name: what for name, what in (objects or structures()).items() if f"={name}" in formula}
    return used or None


def made(
    formula: str, data: Any, family: str = "gaussian", priors: Any = None, objects: Any = None, **more: Any
) -> Model:
    return Model(formula, data, family, priors=priors or PROPER, structures=given(formula, objects), **more)


def values(of: Model, count: int = 3, seed: int = 8, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """log p(y | theta) at a few thetas, the same for every model of this size."""
    field = Field(of)
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        assert field.place(rng.uniform(-1.0, 0.5, field.size) + shift)
        out.append(field.value())
    return np.array(out)


def same(one: Model, other: Model, offset: float = 0.0, shift: np.ndarray | float = 0.0) -> None:
    first, second = values(one), values(other, shift=shift)
    assert np.allclose(first, second + offset, rtol=0.0, atol=CLOSE * np.maximum(1.0, np.abs(first).max()))


def frame(family: str = "gaussian") -> pd.DataFrame:
    return pd.DataFrame(table(family))


@pytest.mark.parametrize("name", STRUCTURES)
def test_order_of_rows(name):
    data = frame()
    formula = f"y ~ x + {STRUCTURES[name]}"
    same(made(formula, data), made(formula, data.sample(frac=1.0, random_state=4)))


@pytest.mark.parametrize("family", FAMILIES)
def test_order_of_rows_of_each_family(family):
    data = frame(family)
    formula = f"{RESPONSES[family]} ~ x + rw2(t) + bym2(area, graph=W) + (1 | g)"
    same(made(formula, data, family), made(formula, data.sample(frac=1.0, random_state=4), family))


AREAL = ["icar", "icar unscaled", "car", "leroux", "bym2", "leroux by"]


@pytest.mark.parametrize("name", AREAL)
def test_labels_and_order_of_areas(name):
    """Areas have other names, and stand in another order, in the graph and in the data."""
    data = frame()
    called = dict(
        zip(AREAS, np.random.default_rng(2).permutation([f"place {k}" for k in range(len(AREAS))]), strict=True)
    )
    graph = structures()["W"]
    renamed = {called[a]: [called[b] for b in graph[a]] for a in sorted(graph, key=called.__getitem__)}
    formula = f"y ~ x + {STRUCTURES[name]}"
    same(made(formula, data), made(formula, data.assign(area=data["area"].map(called)), objects={"W": renamed}))


def test_labels_and_order_of_animals():
    data = frame()
    names, A = structures()["A"]
    order = np.random.default_rng(3).permutation(len(names))
    turned = ([names[k] for k in order], A[np.ix_(order, order)])
    formula = "y ~ x + (1 | animal, covariance=A)"
    same(made(formula, data), made(formula, data, objects={"A": turned}))


@pytest.mark.parametrize("term", ["covariance=A", "precision=P"])
def test_covariance_and_precision_say_the_same(term):
    same(made("y ~ x + (1 | animal, covariance=A)", frame()), made(f"y ~ x + (1 | animal, {term})", frame()))


@pytest.mark.parametrize("name", ["rw1", "rw2", "ar1", "seasonal", "icar", "bym2", "known", "by"])
def test_merged_binomial_rows(name):
    """Trials of one place and x in one row or in several: the likelihood differs by its binomial coefficients."""
    from math import comb

    data = frame("binomial")
    data = data.assign(x=np.round(data["x"]), t=data["t"])
    formula = f"proportion(y, trials) ~ x + {STRUCTURES[name]}"
    first = data.assign(y=data["y"] // 2, trials=data["trials"] // 2)
    second = data.assign(y=data["y"] - first["y"], trials=data["trials"] - first["trials"])
    split = pd.concat([first, second])
    split = split[split["trials"] > 0]
    assert (split["y"] <= split["trials"]).all()

    def constant(rows: pd.DataFrame) -> float:
        return float(sum(np.log(comb(int(n), int(y))) for y, n in zip(rows["y"], rows["trials"], strict=True)))

    same(made(formula, data, "binomial"), made(formula, split, "binomial"), constant(data) - constant(split))


@pytest.mark.parametrize("name", ["rw1", "rw2", "ar1", "s", "seasonal", "icar", "leroux", "bym2", "known", "mixed"])
def test_units_of_the_response(name):
    """y -> a + b y with every prior and sd in the new unit: the density changes by b for each row.

    A direction with a flat prior takes a row.
    """
    a, b, data = 3.0, 250.0, frame()
    formula = f"y ~ x + {STRUCTURES[name]}"
    one = made(formula, data, priors={"beta": Normal(0.0, 3.0), "beta[Intercept]": Normal(1.0, 2.0)})
    priors = {"beta": Normal(0.0, 3.0 * b), "beta[Intercept]": Normal(a + b, 2.0 * b)}
    other = made(formula, data.assign(y=a + b * data["y"]), priors=priors)
    scales = np.array([row.variable.startswith(("sd_", "sigma")) for row in Field(one).rows], dtype=float)
    free = sum(effect.null * effect.replicates for effect in one.effects)
    same(one, other, (len(data) - free) * np.log(b), shift=scales * np.log(b))


@pytest.mark.parametrize(
    "name", ["rw1", "rw1 uneven", "rw2", "rw2 uneven", "ar1", "s", "by", "rw1 cyclic", "rw2 cyclic"]
)
@pytest.mark.parametrize(("origin", "unit"), [(0.0, 7.0), (1000.0, 1.0), (-3.0, 0.25)])
def test_origin_and_unit_of_time(name, origin, unit):
    """A scaled structure knows only the shape of time; a correlation knows its step, which is not a whole number here."""
    term = STRUCTURES[name]
    data = frame()
    if name == "ar1":
        data, unit = data.assign(t=0.37 * data["t"]), 0.91 * unit
    column = "u" if "(u" in term else "z" if "(z" in term else "t"
    moved = data.assign(**{column: origin + unit * data[column]})
    same(made(f"y ~ x + {term}", data), made(f"y ~ x + {term}", moved))


@pytest.mark.parametrize("order", [1, 2])
def test_time_may_run_backwards(order):
    data = frame()
    formula = f"y ~ x + rw{order}(u)"
    same(made(formula, data), made(formula, data.assign(u=5.0 - data["u"])))


@pytest.mark.parametrize("unit", [0.5, 4.0])
@pytest.mark.parametrize(("order", "power"), [(1, 0.5), (2, 1.5)])
def test_unscaled_walks_keep_their_unit(order, power, unit):
    """Not scaled, the variance of increments grows with time¹ and time³: sd is that of one unit."""
    data = frame()
    formula = f"y ~ x + rw{order}(t, scale=False)"
    one, other = made(formula, data), made(formula, data.assign(t=unit * data["t"]))
    scales = np.array([row.variable == "sd_t" for row in Field(one).rows], dtype=float)
    same(one, other, shift=-power * np.log(unit) * scales)


def test_copies_without_spatial_dependence_are_independent():
    """`leroux` with rho -> 0 is N(0, sd²) for every area: the slides' Sigma(lambda², 0) = lambda² I.

    At a small rho the difference is its slope by log rho, up to rho².
    """
    data = frame()
    data = data.assign(cell=data["area"] + "/" + data["arm"].astype(str))
    spatial, plain = Field(made("y ~ x + leroux(area, graph=W, by=arm)", data)), Field(made("y ~ x + (1 | cell)", data))
    for log_sd, log_sigma in ((-0.5, 0.1), (0.7, -0.3)):
        assert spatial.place(np.array([log_sd, -14.0, log_sigma])) and plain.place(np.array([log_sd, log_sigma]))
        slope = spatial.slopes()[1]
        assert 1e-8 < abs(slope) < 1e-4
        assert abs(spatial.value() - plain.value() - slope) < CLOSE


def test_weights_of_one_are_none():
    formula = "y ~ x + rw1(t) + bym2(area, graph=W)"
    same(made(formula, frame()), made(formula, frame().assign(w=1.0), weights="w"))


def test_a_weight_of_two_is_two_rows_of_a_poisson_response():
    data = frame("poisson")
    formula = "y ~ x + rw1(t) + bym2(area, graph=W)"
    twice = pd.concat([data, data])
    same(made(formula, data.assign(w=2.0), "poisson", weights="w"), made(formula, twice, "poisson"))


def test_one_copy_is_none():
    """`by` of one level is the effect itself."""
    data = frame().assign(one="only")
    for term in ("rw2(t{})", "ar1(t{})", "bym2(area, graph=W{})"):
        same(made("y ~ x + " + term.format(""), data), made("y ~ x + " + term.format(", by=one"), data))

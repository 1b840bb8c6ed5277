"""Whatever stands in a table, a model or a `BayouError` comes out: no error of a library below, and no warning."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.errors import BayouError
from bayou.priors import Flat, FlatSD, HalfNormal, Normal, StudentT

JUNK = (
    1, "a", 2.5, None, True, b"x", (1,), decimal.Decimal("1.5"), datetime.date(2020, 1, 1), 1j, np.float32(2), pd.NA,
    pd.NaT, np.inf, 1e300, 2**70, object(),
)  # fmt: skip
PLAIN = {
    "numbers": lambda rng, n: rng.normal(size=n),
    "any size": lambda rng, n: rng.normal(size=n) * 10.0 ** rng.integers(-300, 300),
    "counts": lambda rng, n: rng.poisson(rng.choice([0.05, 2.0, 50.0]), n),
    "zeros and ones": lambda rng, n: rng.integers(0, 2, n),
    "positive": lambda rng, n: rng.gamma(1.0, size=n),
    "groups": lambda rng, n: np.arange(n) // int(rng.integers(1, 6)),
    "text": lambda rng, n: rng.choice(["a", "b", "", "a b", "=x", "é", "None", "nan"], n),
    "truth": lambda rng, n: rng.random(n) < 0.5,
    "dates": lambda rng, n: pd.to_datetime(rng.integers(0, 5, n), unit="D"),
    "categories": lambda rng, n: pd.Categorical(
        rng.choice(list("abc"), n), list("zabc"), ordered=bool(rng.integers(2))
    ),
}
ODD = {
    "one value": lambda rng, n: [JUNK[rng.integers(len(JUNK))]] * n,
    "mixture": lambda rng, n: [JUNK[rng.integers(len(JUNK))] for _ in range(n)],
    "nullable": lambda rng, n: pd.array([None if rng.random() < 0.1 else int(v) for v in rng.poisson(2, n)], dtype="Int64"),
    "gaps": lambda rng, n: np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
    "too short": lambda rng, n: rng.normal(size=max(n - 1, 0)),
    "matrix": lambda rng, n: rng.normal(size=(n, 2)),
    "scalar": lambda rng, n: 3,
    "nothing": lambda rng, n: None,
    "generator": lambda rng, n: (i for i in range(n)),
    "complex": lambda rng, n: rng.normal(size=n) * 1j,
    "bytes": lambda rng, n: np.array([b"a", b"\xff"])[rng.integers(0, 2, n)],
    "periods": lambda rng, n: pd.period_range("2020-01", periods=n, freq="M"),
    "half precision": lambda rng, n: rng.normal(size=n).astype(np.float16),
    "lists": lambda rng, n: [[1, 2]] * n,
    "intervals": lambda rng, n: pd.cut(rng.normal(size=n), 3) if n else [],
}  # fmt: skip
RIGHT = [
    "x + (1 | g)", "x*h + (x | g)", "poly(x, 2) + (1 | g) + (1 | h)", "bs(x, df=4)", "log(x) + offset(h)", "C(x) + scale(h)",
    "x + (1 | g/h)", "0 + x + (0 + x | g)", "center(x, by=g) + (x || g)", "I(x^2) + h:x", "1", "0", "(x + h | g)",
]  # fmt: skip
LEFT = {
    "gaussian": ("y", "log(y)", "measured(y, w)"), "bernoulli": ("y", "y == 1", "C(y)"), "poisson": ("y",),
    "binomial": ("proportion(y, w)", "cbind(y, w)"), "negative_binomial": ("y",), "gamma": ("y",),
}  # fmt: skip
PRIORS = (
    None, {"beta": Flat()}, {"beta": Flat(), "sd": FlatSD()}, {"beta": Normal(0, 1), "sd": HalfNormal(1)},
    {"beta": StudentT(3, 0, 1)}, {"variance": Flat()}, {"beta": Flat(), "sd": FlatSD(), "dispersion": Flat()},
)  # fmt: skip


def some(rng, choices):
    return choices[rng.integers(len(choices))]


def tried(seed):
    """Build the model of one random table, formula, family and prior; True if it could be built."""
    rng = np.random.default_rng(seed)
    n = int(some(rng, (0, 1, 2, 5, 12, 40, 40, 40)))
    family = some(rng, list(LEFT))
    kinds = [some(rng, list(PLAIN.values() if rng.random() < 0.9 else ODD.values())) for _ in "yxghw"]
    data = {name: kind(rng, n) for name, kind in zip("yxghw", kinds, strict=True)}
    if rng.random() < 0.8:
        usual = {"gaussian": "numbers", "bernoulli": "zeros and ones", "gamma": "positive"}
        data["y"] = PLAIN[usual.get(family, "counts")](rng, n)
        data["w"] = data["y"] + rng.poisson(2, n)
    options = {"missing": some(rng, ("drop", "error"))}
    options |= {"weights": "w"} if rng.random() < 0.1 else {}
    options |= {"sigma_by": "h"} if rng.random() < 0.1 else {}
    formula = f"{some(rng, LEFT[family])} ~ {some(rng, RIGHT)}"
    try:
        model = bayou.Model(formula, data, family, some(rng, PRIORS), **options)
    except BayouError as error:
        assert len(str(error)) > 20, error
        return False
    except Exception as error:
        raise AssertionError(f"seed {seed}, {formula!r}, {family}: {type(error).__name__}: {error}") from error
    assert "Priors" in repr(model) or not model.bound.lines
    return True


@pytest.mark.parametrize("first", range(0, 1_200, 300))
def test_a_model_or_an_error_of_ours(first):
    assert sum(tried(seed) for seed in range(first, first + 300)) > 30


@pytest.mark.slow
def test_a_model_or_an_error_of_ours_often():
    assert sum(tried(seed) for seed in range(10_000, 40_000)) > 3_000

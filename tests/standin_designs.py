"""Designs built by hand, so that priors are tested apart from formulas and data frames."""

from types import SimpleNamespace

import numpy as np

from bayou.design import Remainder
from bayou.design.moments import Moments

LINKS = {
    "identity": lambda mu: mu,
    "log": np.log,
    "logit": lambda mu: np.log(mu / (1 - mu)),
}
FAMILIES = {
    "gaussian": ("identity", "sigma"),
    "binomial": ("logit", None),
    "bernoulli": ("logit", None),
    "poisson": ("log", None),
    "negative_binomial": ("log", "phi"),
    "gamma": ("log", "shape"),
}


class WholeRows(SimpleNamespace):
    """What of a design is asked of rows that stand for themselves."""

    reduced = None

    @property
    def given(self):
        return len(self.y)

    @property
    def moments(self):
        return Moments(self)

    @property
    def remainder(self):
        return Remainder.nothing(len(self.sigma_levels))

    def counted(self, rows):
        return int(np.sum(rows))

    def require_rows(self, what):
        """Every row is there."""


class Link:
    def __init__(self, name):
        self.name = name

    def __call__(self, mu):
        return LINKS[self.name](mu)


def grouping(name, codes, columns, blocks=None):
    """A stand-in for bayou.design.Grouping: columns is a dict of coefficient names and values."""
    codes = np.asarray(codes)
    Z = np.column_stack([np.broadcast_to(np.asarray(v, dtype=float), codes.shape) for v in columns.values()])
    return SimpleNamespace(
        name=name,
        levels=np.array([f"{name}{j}" for j in range(codes.max() + 1)], dtype=object),
        codes=codes,
        Z=Z,
        coefficients=tuple(columns),
        blocks=blocks or (tuple(range(len(columns))),),
    )


def design(y, columns, groupings=(), family="gaussian", link=None, **extra):
    """A stand-in for bayou.design.Design."""
    y = np.asarray(y, dtype=float)
    n = len(y)
    default_link, dispersion = FAMILIES[family]
    X = [np.broadcast_to(np.asarray(v, dtype=float), n) for v in columns.values()]
    fields = {
        "response_name": "y",
        "y": y,
        "X": np.column_stack(X) if X else np.zeros((n, 0)),
        "coefficients": tuple(columns),
        "groupings": tuple(groupings),
        "family": SimpleNamespace(name=family, link=Link(link or default_link), dispersion=dispersion),
        "trials": np.ones(n),
        "weights": np.ones(n),
        "offset": np.zeros(n),
        "standard_errors": None,
        "sigma_by": None,
        "sigma_codes": np.zeros(n, dtype=np.int64),
        "sigma_levels": np.array(["all"], dtype=object),
    }
    return WholeRows(**{**fields, **extra})

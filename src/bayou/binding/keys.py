"""Which prior speaks of what: names of parameters to priors, the specific before the general."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bayou.binding import defaults
from bayou.errors import ImproperPosterior, PriorError
from bayou.priors import LKJ, Flat, Jeffreys, Normal, OfPrecision, OfVariance, Prior, Priors, Uniform, Wishart
from bayou.priors.covariance import MatrixPrior

if TYPE_CHECKING:
    from bayou.design import Design, Grouping

ROLES = ("sd", "variance", "precision")
"""First words of the keys of group scales: the quantity that a density under them is of."""
DISPERSION_ROLES = {"sigma": "sd", "sigma2": "variance", "phi": "precision", "shape": "precision"}


def dispersion_name(design: Design) -> str | None:
    """Return the dispersion to estimate: None when the family has none or the data bring it."""
    known = design.family.dispersion == "sigma" and design.standard_errors is not None
    return None if known else design.family.dispersion


def block_names(grouping: Grouping, columns: tuple[int, ...]) -> str:
    """Return the coefficients of a block as they stand in a key."""
    return ",".join(grouping.coefficients[k] for k in columns)


def check_keys(given: Priors, design: Design, structured: Sequence[str] = ()) -> list[str]:
    """Raise PriorError for a key the model does not have; return notes on keys that act on nothing.

    ``structured`` are the keys of the structured effects.
    """
    general = ["beta", *ROLES, "cor", "Sigma"]
    known = [*general, *(f"beta[{name}]" for name in design.coefficients), *structured]
    for g in design.groupings:
        pairs = [block_names(g, c) for c in g.blocks if len(c) > 1]
        known += [f"{role}_{g.name}" for role in ROLES]
        known += [f"{role}_{g.name}[{name}]" for role in ROLES for name in g.coefficients]
        known += [f"Sigma_{g.name}", *(f"Sigma_{g.name}[{block_names(g, c)}]" for c in g.blocks)]
        if pairs:
            known += [f"cor_{g.name}", *(f"cor_{g.name}[{names}]" for names in pairs)]
    name = dispersion_name(design)
    if name is not None:
        known += ["dispersion", name, *(["sigma2"] if name == "sigma" else [])]
    for key in given:
        if key in known:
            continue
        close = difflib.get_close_matches(key, known, 1)
        why = f" Did you mean {close[0]!r}?" if close else ""
        if key in ("dispersion", *DISPERSION_ROLES):
            why = f" The {design.family.name} family has no such parameter."
            if design.standard_errors is not None:
                why = " The standard errors are known: there is no residual sd to estimate."
        shown = ", ".join(known[:40]) + (", …" if len(known) > 40 else "")
        raise PriorError(f"No parameter of this model is called {key!r}.{why} Known keys: {shown}.")
    idle = [] if design.groupings else [*([] if structured else ROLES), "cor", "Sigma"]
    if design.groupings and not any(len(c) > 1 for g in design.groupings for c in g.blocks):
        idle = ["cor"]
    return [f"The prior of {key} acts on nothing in this model." for key in idle if key in given]


def _on_sd(prior: Prior, role: str, key: str) -> Prior:
    """Return the prior as one whose ``code`` is a density of the sd; refuse what does not fit."""
    if prior.speaks_of in ("coefficient", "matrix", "correlation"):
        raise PriorError(f"{prior} is not a prior of a scale: {key} takes HalfT, Exponential, Gamma, …")
    if isinstance(prior, Uniform) and prior.lower < 0.0:
        raise PriorError(f"{key} is never negative, but {prior} starts below 0.")
    if prior.speaks_of == "value":
        return prior if role == "sd" else OfVariance(prior) if role == "variance" else OfPrecision(prior)
    if role not in ("sd", prior.speaks_of):
        raise PriorError(
            f"{prior} speaks of the {prior.speaks_of}, but {key} of the {role}; write it under the key of the sd."
        )
    return prior


def scale_prior(given: Priors, grouping: Grouping, coefficient: str) -> tuple[int, Prior | None, str]:
    """Return the most specific prior of one group sd, with its rank: 2 own, 1 factor, 0 all, −1 none."""
    return _scale_prior(given, (f"_{grouping.name}[{coefficient}]", f"_{grouping.name}", ""))


def own_scale_prior(given: Priors, name: str) -> Prior | None:
    """Return the most specific prior of the sd of a structured effect, or None."""
    return _scale_prior(given, (f"_{name}", ""))[1]


def _scale_prior(given: Priors, endings: tuple[str, ...]) -> tuple[int, Prior | None, str]:
    for rank, ending in zip(range(len(endings) - 1, -1, -1), endings, strict=True):
        keys = [role + ending for role in ROLES if role + ending in given]
        # A matrix may stand under variance and precision: matrix_prior reads it there.
        scalar = [key for key in keys if key == "sd" + ending or not isinstance(given[key], MatrixPrior)]
        if len(keys) > 1:
            raise PriorError(f"{' and '.join(keys)} speak of the same standard deviation; give one of them.")
        if scalar:
            role = scalar[0].removesuffix(ending) if ending else scalar[0]
            prior = _on_sd(given[scalar[0]], role, scalar[0])
            if isinstance(prior, Jeffreys):
                raise ImproperPosterior(
                    f"{scalar[0]} ~ {prior}: p(tau²) ∝ 1/tau² of a group variance is always improper, since "
                    "the data never exclude tau = 0. Use FlatSD(), HalfT(2, scale) or another proper prior."
                )
            return rank, prior, scalar[0]
    return -1, None, ""


def matrix_prior(given: Priors, grouping: Grouping, names: str) -> tuple[int, MatrixPrior | None, str]:
    """Return the most specific prior of a whole covariance matrix, with its rank."""
    for rank, ending in ((2, f"_{grouping.name}[{names}]"), (1, f"_{grouping.name}"), (0, "")):
        for word, expected in (("Sigma", "matrix"), ("variance", "variance"), ("precision", "precision")):
            key = word + ending
            prior = given.get(key)
            if isinstance(prior, MatrixPrior):
                if expected != "matrix" and (expected == "precision") != isinstance(prior, Wishart):
                    raise PriorError(f"{prior} does not speak of a {expected}; write it under Sigma{ending}.")
                return rank, prior, key
            if prior is not None and word == "Sigma":
                raise PriorError(f"{key} takes InverseWishart, Wishart or HuangWand, not {prior}.")
    return -1, None, ""


def cor_prior(given: Priors, grouping: Grouping, names: str) -> tuple[int, LKJ | None, str]:
    """Return the most specific prior of a correlation matrix, with its rank."""
    for rank, ending in ((2, f"_{grouping.name}[{names}]"), (1, f"_{grouping.name}"), (0, "")):
        prior = given.get("cor" + ending)
        if prior is not None and not isinstance(prior, LKJ):
            raise PriorError(f"cor{ending} takes LKJ(eta), not {prior}.")
        if isinstance(prior, LKJ):
            return rank, prior, "cor" + ending
    return -1, None, ""


def dispersion_prior(given: Priors, design: Design) -> tuple[str | None, Prior]:
    """Return the name of the dispersion to estimate and the prior of s; None when there is none."""
    name = dispersion_name(design)
    if name is None:
        return None, Flat()
    keys = [key for key in (name, "sigma2" if name == "sigma" else "") if key in given]
    if len(keys) > 1:
        raise PriorError("sigma and sigma2 speak of the same parameter; give one of them.")
    if keys:
        prior = _on_sd(given[keys[0]], DISPERSION_ROLES[keys[0]], keys[0])
    elif "dispersion" in given:
        prior = _on_sd(given["dispersion"], "sd", "dispersion")
    else:
        prior = defaults.dispersion_default(design)
    return name, prior


def line(key: str, prior: Prior, name: str | None) -> str:
    """Return "parameter ~ prior" with its numbers, the parameter being what the prior speaks of."""
    shown: Prior = prior.prior if isinstance(prior, OfVariance) else prior
    if key in ("dispersion", name):
        words = {"variance": f"{name}2", "precision": f"1/{name}2"}
        if name in ("phi", "shape"):
            words = {"variance": f"1/{name}", "precision": name}
        key = words.get(prior.speaks_of, f"1/sqrt({name})" if key == "dispersion" else key)
    elif key.startswith("sd_") and prior.speaks_of in ("variance", "precision"):
        key = prior.speaks_of + key.removeprefix("sd")
    if isinstance(prior, Normal) and prior.at is not None and len(prior.at) == 1:
        shown = Normal(prior.mean, prior.sd)
    elif isinstance(prior, Normal) and prior.at is not None:
        return f"{key} ~ {Normal(prior.mean, prior.sd)} at centred columns"
    return f"{key} ~ {shown}"

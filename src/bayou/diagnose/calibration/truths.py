"""True values drawn from the priors, or from a posterior, and the responses that follow from them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.errors import DataError, PriorError, Unsupported
from bayou.posterior import Posterior, factor_names
from bayou.predict.linear import Rows, Sample, training_rows

if TYPE_CHECKING:
    from bayou.design import Design, Reduced
    from bayou.design.structured import StructuredTerm
    from bayou.model import Model

__all__ = ["check_priors", "check_response", "drawn_from_prior", "joined", "new_response", "with_response"]

Truth = dict[str, Array]
REMEDIES = {"beta": "Normal(0, 2.5)", "sd": "HalfT(3, 1)", "Sigma": "HuangWand(2, 1)", "precision": "Gamma(2, 1)"}
SCALES = ("sigma", "dispersion", "phi", "shape")


def check_priors(model: Model) -> None:
    """Refuse priors that nothing can be drawn from.

    Raises
    ------
    PriorError
        Naming each of them, and what to give.
    """
    said = [f"{key} ~ {prior}" for key, prior in model.priors.items() if not prior.proper]
    keys = [key for key, prior in model.priors.items() if not prior.proper]
    flat = np.any(model.bound.beta_flat != 0.0, axis=1)
    if flat.any() and not any(key.startswith("beta") for key in keys):
        names = [name for name, one in zip(model.design.coefficients, flat, strict=True) if one]
        said.append(f"the coefficients {', '.join(names)}, some directions of which are flat")
        keys.append("beta")
    for term, effect in zip(model.design.structured, model.effects, strict=True):
        if effect.null:
            said.append(f"{term.text or term.name}, whose prior leaves {_directions(effect.null)} flat")
    if not said:
        return
    remedies = ", ".join(f"{key!r}: {_remedy(key)}" for key in keys)
    give = f"Give proper priors, such as priors={{{remedies}}}. " if keys else "Take another effect, such as ar1. "
    raise PriorError(
        f"Calibration draws parameters from the priors, and some of them are improper: {'; '.join(said)}. {give}"
        "Or calibrate given your data, with posterior=True, which needs a proper posterior only."
    )


def _directions(count: int) -> str:
    return "one direction" if count == 1 else f"{count} directions"


def _remedy(key: str) -> str:
    word = key.partition("_")[0].partition("[")[0]
    if key in SCALES:
        return "HalfT(3, 1)"
    return REMEDIES.get(word, "HalfT(3, 1)")


def check_response(model: Model) -> None:
    """Refuse models that no response can be drawn from.

    Raises
    ------
    Unsupported
        For prior weights of a family that is not Gaussian.
    """
    if model.family.name != "gaussian" and np.any(model.design.weights != 1.0):
        raise Unsupported(
            f"Calibration draws new responses, and prior weights of a {model.family.name} response say nothing of its "
            "distribution. Repeat rows or use trials instead of weights."
        )


# ---- parameters ---------------------------------------------------------------------------------


def drawn_from_prior(model: Model, rng: np.random.Generator) -> Truth:
    """Draw every unknown once from proper priors, with the names and shapes of draws: (1, 1, …)."""
    drawn = model.sample_prior(1, seed=int(rng.integers(2**63)))
    design = model.design
    printed = factor_names([g.name for g in design.groupings], model.family.dispersion)
    for g in design.groupings:
        sd, cor = drawn.pop(f"sd_{g.name}"), drawn.pop(f"cor_{g.name}", None)
        root = np.eye(sd.shape[1]) if cor is None else _root(cor[0])
        z = rng.standard_normal((len(g.levels), sd.shape[1]))
        own = {"sd": sd, "cor": cor, "b": (sd * (z @ root.T))[None]}
        drawn |= {f"{kind}_{printed[g.name]}": values for kind, values in own.items() if values is not None}
    return {key: np.asarray(values, dtype=np.float64)[None] for key, values in drawn.items()}


def _root(cor: Array) -> Array:
    values, vectors = np.linalg.eigh(cor)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


# ---- responses ----------------------------------------------------------------------------------


def new_response(model: Model, truth: Mapping[str, Array], rng: np.random.Generator) -> Array:
    """Draw a response (n,) given all unknowns, in the rows of the model.

    Raises
    ------
    DataError
        If it holds what the family cannot have: the parameters were too large for numbers.
    """
    design = model.design
    design.require_rows("Calibration by simulated responses")
    sample = Sample(Posterior(model=model, engine="", draws=dict(truth)), effects=True)
    rows: Rows = training_rows(design)
    whole = slice(0, design.n)
    with np.errstate(all="ignore"):
        eta = (sample.fixed(rows, whole) + sample.observed(rows, whole))[0]
        dispersion = sample.dispersion(rows, whole)
        spread = None if dispersion is None else np.broadcast_to(dispersion, (1, design.n))[0]
        try:
            y = model.family.sample(rng, eta, spread, design.trials, design.weights)
        except ValueError as error:
            raise DataError(f"no response can be drawn: {error}") from error
    if not np.isfinite(y).all():
        raise DataError("the response that was drawn is not finite")
    model.family.check(y, design.trials)
    return np.asarray(y, dtype=np.float64)


def with_response(model: Model, y: Array) -> Model:
    """Return the same model, frozen priors and all, with another response (n,).

    Where identical rows were merged the response is of the merged rows, which then stand for themselves.
    """
    other = copy.copy(model)
    other.design = replace(model.design, y=np.ascontiguousarray(y, dtype=np.float64), reduced=_own(model.design))
    return other


def _own(design: Design) -> Reduced | None:
    """Return what rows with another response come from: merged ones stand for themselves then."""
    return None if design.reduced is None or design.reduced.how == "merged" else design.reduced


def joined(model: Model) -> Model:
    """Return the model of its own rows and of the same rows once more, for a second response.

    Both copies of a row belong to the same levels of all factors and the same nodes of structured effects: their
    coefficients are shared. The priors are the frozen ones. The response stands there twice, and waits for
    `with_response`.
    """
    own = model.design
    twice: dict[str, Any] = {
        name: np.concatenate([getattr(own, name)] * 2)
        for name in ("y", "trials", "weights", "offset", "sigma_codes", "index")
    }
    if own.standard_errors is not None:
        twice["standard_errors"] = np.concatenate([own.standard_errors] * 2)
    groupings = tuple(
        replace(g, codes=np.concatenate([g.codes] * 2), Z=np.ascontiguousarray(np.vstack([g.Z, g.Z])))
        for g in own.groupings
    )
    other = copy.copy(model)
    other.design = replace(
        own,
        X=np.ascontiguousarray(np.vstack([own.X, own.X])),
        groupings=groupings,
        structured=tuple(_twice(term) for term in own.structured),
        reduced=_own(own),
        **twice,
    )
    for name in ("working", "structure"):  # what was computed of the rows
        other.__dict__.pop(name, None)
    return other


def _twice(term: StructuredTerm) -> StructuredTerm:
    return replace(
        term,
        start=np.concatenate([term.start, term.start[1:] + term.start[-1]]),
        replicate=np.concatenate([term.replicate] * 2),
        node=np.concatenate([term.node] * 2),
        value=np.concatenate([term.value] * 2),
    )

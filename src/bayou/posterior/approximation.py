"""What an engine that approximates the posterior by densities finds, beside the draws that are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array
from bayou.errors import BayouError, Unsupported
from bayou.posterior.marginals import Marginal
from bayou.posterior.mixtures import Mixture

__all__ = ["Approximation", "Marginal", "Mixture", "Scores", "pack_approximation", "unpack_approximation"]


class Scores(NamedTuple):
    """How well the model predicts its own data.

    Attributes
    ----------
    dic, waic
        Deviance and widely applicable information criteria, −2 log density.
    dic_parameters, waic_parameters
        Their effective numbers of parameters.
    cpo
        Predictive density of each row given the others, (n,); NaN where it was not computed.
    pit
        Probability of at most the row's response given the others, (n,).
    """

    dic: float
    waic: float
    dic_parameters: float
    waic_parameters: float
    cpo: Array
    pit: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Approximation:
    """Marginal densities, the marginal likelihood, and how far they can be trusted.

    Attributes
    ----------
    method
        As printed: ``"variational, 15 nodes on a grid"``.
    marginals
        By name of the summary row, a `Marginal` each (all rows of `Posterior.rows`).
    effects
        By name of the variable (``b_g``, shape (J, p); ``f_t``, shape (m,) or (R, m)) a `Mixture`, or a function
        without arguments that returns one when somebody looks. A variable that is not here is described by its draws.
    log_marginal, log_marginal_error
        log p(y), with every constant, and the standard error of that number; NaN where they are not known.
    scores
        `Scores`, or a function that returns them when they are first read; None where there are none.
    thetas, log_weights
        The nodes (K, d) of the hyperparameters in internal coordinates and the logs of their weights (K,).
    messages
        Sentences that are worth knowing.
    check
        The self-check: ``shift`` (largest shift of a mean or sd by the correction, in posterior sds),
        ``effective_size``, ``k_hat``, ``ok`` and ``corrected`` (whether what is reported is the weighted answer);
        ``continued`` if a Markov chain went on from there. Empty where none was made.

    Raises
    ------
    BayouError
        If nodes and weights do not belong together.

    References
    ----------
    Rue, Martino & Chopin (2009), J. R. Statist. Soc. B 71, 319-392. Spiegelhalter, Best, Carlin & van der Linde
    (2002), J. R. Statist. Soc. B 64, 583-639 (DIC). Watanabe (2010), JMLR 11, 3571-3594 (WAIC).

    Examples
    --------
    >>> import numpy as np
    >>> found = Approximation(
    ...     method="variational, 1 node", marginals={"beta[Intercept]": Marginal.normal(1.0, 0.5)},
    ...     thetas=np.zeros((1, 0)), log_weights=np.zeros(1), log_marginal=-12.5)
    >>> found.marginals["beta[Intercept]"].quantile(0.5).round(6)
    np.float64(1.0)
    """

    method: str
    marginals: Mapping[str, Marginal]
    thetas: Array
    log_weights: Array
    effects: Mapping[str, Mixture | Callable[[], Mixture]] = field(default_factory=dict)
    log_marginal: float = np.nan
    log_marginal_error: float = np.nan
    scores: Scores | Callable[[], Scores] | None = None
    messages: tuple[str, ...] = ()
    check: Mapping[str, Any] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.thetas.ndim != 2 or self.log_weights.shape != (len(self.thetas),):
            raise BayouError(
                f"Nodes of shape {self.thetas.shape} need one log weight each, not shape {self.log_weights.shape}."
            )

    @property
    def nodes(self) -> int:
        """How many values of the hyperparameters were looked at."""
        return len(self.thetas)

    def effect(self, variable: str) -> Mixture | None:
        """Return the marginals of a variable such as ``f_t`` or ``b_g``, or None where there are none."""
        if variable not in self.effects:
            return None
        key = f"effect {variable}"
        if key not in self._kept:
            given = self.effects[variable]
            self._kept[key] = given() if callable(given) else given
        found: Mixture = self._kept[key]
        return found

    def known_scores(self, what: str) -> Scores:
        """Return the scores, computed at first use.

        Raises
        ------
        Unsupported
            If there are none; ``what`` was asked for.
        """
        if self.scores is None:
            raise Unsupported(f"{what} was not computed by {self.method}; fit.loo() compares by draws.")
        if "scores" not in self._kept:
            self._kept["scores"] = self.scores() if callable(self.scores) else self.scores
        found: Scores = self._kept["scores"]
        return found

    @property
    def dic(self) -> float:
        """Deviance information criterion."""
        return self.known_scores("DIC").dic

    @property
    def waic(self) -> float:
        """Widely applicable information criterion, on the scale of −2 log density."""
        return self.known_scores("WAIC").waic

    @property
    def cpo(self) -> Array:
        """Predictive density of each row given the others, (n,)."""
        return self.known_scores("The conditional predictive ordinate").cpo

    @property
    def pit(self) -> Array:
        """Probability of at most each row's response given the others, (n,)."""
        return self.known_scores("The probability integral transform").pit


# ---- files ---------------------------------------------------------------------------------


def pack_approximation(found: Approximation) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return an approximation as facts for JSON and flat arrays by name; what was deferred is computed."""
    arrays: dict[str, Array] = {"thetas": found.thetas, "log_weights": found.log_weights}
    marginals = []
    for k, (name, one) in enumerate(found.marginals.items()):
        arrays[f"points_{k}"], arrays[f"height_{k}"] = one.points, one.log_density
        marginals.append([name, one.scale, None if one.moments is None else [float(x) for x in one.moments]])
    mixtures = {name: mixture for name in found.effects if (mixture := found.effect(name)) is not None}
    for k, mixture in enumerate(mixtures.values()):
        arrays |= {f"weights_{k}": mixture.weights, f"means_{k}": mixture.means, f"sds_{k}": mixture.sds}
    scores = None
    if found.scores is not None:
        known = found.known_scores("the scores")
        arrays |= {"cpo": np.asarray(known.cpo), "pit": np.asarray(known.pit)}
        scores = [float(x) for x in known[:4]]
    facts = {
        "method": found.method,
        "marginals": marginals,
        "effects": list(mixtures),
        "log_marginal": float(found.log_marginal),
        "log_marginal_error": float(found.log_marginal_error),
        "scores": scores,
        "messages": list(found.messages),
        "check": {k: v.item() if isinstance(v, np.generic) else v for k, v in found.check.items()},
        "shapes": {k: list(v.shape) for k, v in arrays.items()},
    }
    return facts, {f"approximation_{k}": np.ravel(v) for k, v in arrays.items() if v.size}


def unpack_approximation(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Approximation:
    """Rebuild what `pack_approximation` took apart."""
    nothing = np.zeros(0)
    own = {k: np.reshape(arrays.get(f"approximation_{k}", nothing), s) for k, s in facts["shapes"].items()}
    marginals = {
        name: Marginal(own[f"points_{k}"], own[f"height_{k}"], scale, None if m is None else (m[0], m[1]))
        for k, (name, scale, m) in enumerate(facts["marginals"])
    }
    effects = {
        name: Mixture(own[f"weights_{k}"], own[f"means_{k}"], own[f"sds_{k}"])
        for k, name in enumerate(facts["effects"])
    }
    scores = facts["scores"]
    return Approximation(
        method=facts["method"],
        marginals=marginals,
        effects=effects,
        thetas=own["thetas"],
        log_weights=own["log_weights"],
        log_marginal=facts["log_marginal"],
        log_marginal_error=facts["log_marginal_error"],
        scores=None if scores is None else Scores(scores[0], scores[1], scores[2], scores[3], own["cpo"], own["pit"]),
        messages=tuple(facts["messages"]),
        check=facts["check"],
    )

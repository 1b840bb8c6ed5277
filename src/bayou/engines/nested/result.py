"""From what the engine has found to the one result type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou.engines.nested.check import Corrected
from bayou.engines.nested.criteria import scores
from bayou.engines.nested.draws import Sampler
from bayou.engines.nested.latent import Parts
from bayou.engines.nested.run import Found
from bayou.posterior import Marginal, Mixture, Posterior, factor_names
from bayou.posterior.approximation import Approximation, Scores
from bayou.posterior.lazy import DrawnOnDemand

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["CHAINS", "WARMUP", "continued", "instead", "posterior"]

CHAINS = 4
WARMUP = 500
KINDS = {"grid": "on a grid", "ccd": "of a composite design", "empirical_bayes": "at the mode"}
TOLD = 0.1  # posterior sds: a shift that is worth a sentence


def posterior(model: Model, engine: str, found: Found, draws: int, seed: int) -> Posterior:
    """Return the weighted answer, or the unweighted one where no check was asked for or it failed."""
    corrected, failed = found.corrected, found.failed
    names = factor_names([g.name for g in model.design.groupings], model.family.dispersion)
    messages = list(found.messages)
    check: dict[str, Any] = {}
    if failed:
        corrected = None
        check = _facts(found, ok=False, corrected=False)
        messages.append(f"The self-check failed: {', '.join(failed)}.")
    elif corrected is not None:
        check = _facts(found, ok=True, corrected=True)
        if corrected.shift > TOLD:
            messages.append(
                f"The importance weights corrected {corrected.shifted} by {corrected.shift:.2f} posterior sds."
            )
    parts = found.parts if corrected is None else corrected.parts
    hyper = found.hyper if corrected is None else corrected.hyper
    P = len(model.design.coefficients)
    marginals = {}
    for k, name in enumerate(found.names):
        marginals[name] = _marginal(parts, parts.means.shape[1] - P + k) if k < P else hyper[k - P]
    approximation = _approximation(found, marginals, _effects(found, parts, names), messages, check, corrected)
    drawn_from = found.particles if corrected is not None else None
    weights = None if corrected is None else corrected.weights.exact

    def sampled() -> dict[str, Any]:
        field, rows, nodes = found.here
        sampler = Sampler(field, found.mode, nodes, found.strategy, rows.gaussian, drawn_from, weights)
        return sampler(CHAINS, draws, seed, names)

    lead = (CHAINS, draws)
    one = {**found.field.unpack(found.field.x[None], names), **found.field.unpack_theta(found.mode.theta[None], names)}
    shapes = {name: (*lead, *values.shape[1:]) for name, values in one.items()}
    drawn = DrawnOnDemand(shapes, sampled)
    return Posterior(
        model=model, engine=engine, draws=drawn, statistics={}, info=_info(found, messages),
        approximation=approximation,
    )  # fmt: skip


def continued(
    model: Model, engine: str, found: Found, draws: int, cores: int, rng: np.random.Generator
) -> Posterior:
    """Go on by Markov chain from the approximation, and return what it finds."""
    by_groups = model.effects == ()
    result = _by_groups(model, draws, cores, rng) if by_groups else _by_field(model, found, draws, cores, rng)
    return instead(result, engine, found)


def instead(result: Posterior, engine: str, found: Found) -> Posterior:
    """Return what a chain found, with what the approximation tells that failed its check."""
    corrected = found.corrected
    assert corrected is not None
    sentence = f"The self-check failed: {', '.join(corrected.reasons)}. The answer is that of a Markov chain instead."
    messages = [*found.messages, sentence]
    values = {name: result.values(place) for name, place in result.rows.items()}
    scales = {row.name: row.scale for row in found.field.rows}
    marginals = {name: Marginal.of_draws(v, None, scales.get(name, "identity")) for name, v in values.items()}
    check = _facts(found, ok=False, corrected=False) | {"continued": True}
    result.approximation = _approximation(found, marginals, {}, messages, check, corrected)
    result.engine = engine
    result.info |= _info(found, [*result.info.get("messages", []), *messages])
    return result


def _by_groups(model: Model, draws: int, cores: int, rng: np.random.Generator) -> Posterior:
    """Run the sampler that takes models of grouping factors alone: it moves each level by itself."""
    from bayou.engines.gibbs import Gibbs
    from bayou.engines.metropolis import Metropolis

    chosen = Gibbs if model.family.name == "gaussian" and model.family.link.name == "identity" else Metropolis
    return chosen(draws=draws, warmup=WARMUP, chains=CHAINS, cores=cores, progress=False).run(model, rng)


def _by_field(model: Model, found: Found, draws: int, cores: int, rng: np.random.Generator) -> Posterior:
    """Run the sampler of structured effects from where the approximation stands, with its Gaussian as proposal."""
    from bayou.engines.field import continue_from

    corrected = found.corrected
    assert corrected is not None and found.particles is not None
    thetas, weights = found.particles.thetas, corrected.weights.exact
    # wider than the approximation where the weights say so
    spread = found.mode.axes * np.maximum(found.mode.left, found.mode.right)
    starts = thetas[rng.choice(len(thetas), CHAINS, p=weights)] if np.isfinite(weights).all() else None
    return continue_from(
        model, found.mode.theta, spread, rng, draws=draws, warmup=WARMUP, chains=CHAINS, cores=cores, progress=False,
        starts=starts, approximation=found.here[0],
    )  # fmt: skip


def _marginal(parts: Parts, k: int) -> Marginal:
    return Marginal.mixture(parts.means[:, k], parts.sds[:, k], parts.weights)


def _effects(found: Found, parts: Parts, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the marginals of all coefficients by variable, unpacked when one is looked at."""
    N = len(found.field.x)
    kept: dict[str, Mixture] = {}

    def one(name: str) -> Mixture:
        if not kept:
            means = found.field.unpack(parts.means[:, :N], names)
            sds = found.field.unpack(parts.sds[:, :N], names)
            kept.update({k: Mixture(parts.weights, means[k], sds[k]) for k in means if k != "beta"})
        return kept[name]

    variables = [k for k in found.field.unpack(found.field.x[None], names) if k != "beta"]
    return {name: (lambda name=name: one(name)) for name in variables}


def _approximation(
    found: Found, marginals: dict[str, Marginal], effects: dict[str, Any], messages: list[str], check: dict[str, Any],
    corrected: Corrected | None,
) -> Approximation:  # fmt: skip
    nodes = found.nodes
    with np.errstate(divide="ignore"):
        shares = nodes.log_shares if corrected is None else np.log(corrected.weights.shares)
    K = len(nodes.nodes)
    words = found.strategy.replace("_", " ")
    method = f"{words}, {K} node{'s' if K > 1 else ''} {KINDS[nodes.kind]}"

    def criteria() -> Scores:
        found.field.model.design.require_rows("A criterion of prediction (DIC, WAIC, CPO, PIT)")
        _, rows, looked = found.here
        return scores(rows, looked, shares)

    return Approximation(
        method=method,
        marginals=marginals,
        thetas=nodes.thetas,
        log_weights=shares,
        effects=effects,
        log_marginal=nodes.log_marginal if corrected is None else corrected.log_marginal,
        log_marginal_error=np.nan if corrected is None else corrected.log_marginal_error,
        scores=criteria,
        messages=tuple(messages),
        check=check,
    )


def _facts(found: Found, ok: bool, corrected: bool) -> dict[str, Any]:
    done = found.corrected
    assert done is not None
    return {
        "shift": done.shift,
        "shifted": done.shifted,
        "effective_size": done.effective_size,
        "k_hat": done.k_hat,
        "error": done.error,
        "ok": ok,
        "corrected": corrected,
    }


def _info(found: Found, messages: list[str]) -> dict[str, Any]:
    return {
        "method": f"{len(found.nodes.nodes)} nodes of {found.field.size} hyperparameters",
        "seconds_by_stretch": found.seconds,
        "messages": messages,
    }

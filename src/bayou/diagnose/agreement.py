"""One model through several engines: whether they find the same posterior."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou import engines as known_engines
from bayou.diagnose.compared import Difference, Sample, bar_of, compared, sample_of
from bayou.errors import BayouError, DataError, ResourceError, Unsupported
from bayou.model import Model
from bayou.verdict import examine, judge

if TYPE_CHECKING:
    import pandas as pd

    from bayou.engines import Engine
    from bayou.plot.style import Picture
    from bayou.posterior import Posterior
    from bayou.verdict.sentences import Verdict

__all__ = ["Agreement", "agreement"]

COARSE = 0.25  # posterior sds: a table that cannot see this much says little
SHOWN = 3  # rows that a sentence names


@dataclass(frozen=True, eq=False)
class Agreement:
    """The same model and priors through several engines, beside each other.

    Attributes
    ----------
    model
        The model, with its priors as given ones.
    results
        The `Posterior` of each engine that took the model.
    verdicts
        What each of them says of itself.
    seconds
        Of each.
    reference
        The engine that the others are compared with: the one that agrees with the most of them.
    table
        One row for each parameter and engine: ``mean`` and ``sd``; ``difference`` from the reference in its posterior
        sds and the Monte Carlo ``error`` of that; the ``ratio`` of the sds and its ``ratio_error``; ``distance``, the
        Wasserstein distance of the two distributions in posterior sds; ``by``, "mean and sd", or "median and
        quantiles" where a tail is so heavy that an sd is that of a few draws; ``agrees``.
    sentences
        One for each engine: whether it agrees, and if not where it differs and by how much; or why it refused.
    """

    model: Model
    results: Mapping[str, Posterior]
    verdicts: Mapping[str, Verdict]
    seconds: Mapping[str, float]
    reference: str
    table: pd.DataFrame
    sentences: tuple[str, ...]
    ok: bool
    """Whether two or more engines gave a posterior, all of these agree, and each verdict is ok."""

    def plot(
        self, limit: int = 40, size: tuple[float, float] | None = None, save: str | os.PathLike[str] | None = None
    ) -> Picture:
        """Draw the differences, the ratios of sds and the distances, a line for each parameter.

        Parameters
        ----------
        limit
            At most so many parameters: those that differ the most.
        size
            Width and height in inches.
        save
            A file to write the picture to.
        """
        from bayou.plot.agreement import draw_agreement

        return draw_agreement(self, limit, size, save)

    def __str__(self) -> str:
        table = self.table.reset_index()
        table = table[table["engine"] != self.reference]
        columns = ["parameter", "engine", "difference", "error", "ratio", "ratio_error", "distance"]
        words = table[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–")
        head = "Agreement: ok." if self.ok else "Agreement: NOT OK."
        lines = [f"{head} {self.model.text}, the same priors for all", "", *self.sentences]
        if len(table):
            lines += ["", f"Differences from {self.reference} in its posterior sds, and ratios of sds", "", words]
        return "\n".join(lines)

    __repr__ = __str__

    def __bool__(self) -> bool:
        return self.ok


def agreement(
    model: Model,
    engines: Sequence[str | Engine] = ("gibbs", "inla", "nuts"),
    *,
    seed: int | None = None,
    groups: bool = False,
    **settings: Any,
) -> Agreement:
    """Fit one model by several engines and say whether they find the same posterior.

    All engines get the same explicit priors, also those that maximise a likelihood and would use none otherwise. A
    difference counts where it is larger than chance allows (four Monte Carlo errors, more for many parameters) and
    than .05 posterior sds, of the sds 5 %. Two of a run of samplers can share a mistake; an engine of another kind
    seldom does.

    Parameters
    ----------
    model
        A `Model`.
    engines
        Names or engines, two or more. Likelihood engines ("laplace", "quadrature", "reml", …) give a maximum with
        standard errors instead of a posterior: they stand in the table, and decide nothing.
    seed
        Each engine draws from a seed of its own that follows from this one.
    groups
        Whether to compare the coefficients of every group and structured effect too.
    **settings
        Go to each engine that has them, such as ``draws=4000``.

    Returns
    -------
    Agreement
        With ``table``, ``sentences``, ``ok``, ``plot()``.

    Raises
    ------
    DataError
        For what is no model, and for fewer than two engines.
    Unsupported
        For an unknown engine, a setting that none of them has, and if every engine refuses the model.

    Examples
    --------
    >>> import bayou
    >>> clinic = bayou.datasets.load("clinic")
    >>> model = bayou.Model("proportion(favorable, patients) ~ treatment + (1 | clinic)", clinic, family="binomial")
    >>> found = bayou.agreement(model, ["metropolis", "inla", "gibbs"], seed=1)
    >>> found.ok
    True
    >>> print(found.sentences[2][:58])
    gibbs refused: Gibbs needs a Gaussian response with identi
    """
    if not isinstance(model, Model):
        raise DataError(f"agreement takes a Model, not {type(model).__name__}: agreement(bayou.Model(formula, data)).")
    chosen = _engines(engines, settings)
    frozen = copy.copy(model)
    frozen.priors_given = True
    results: dict[str, Posterior] = {}
    seconds: dict[str, float] = {}
    refused: dict[str, str] = {}
    seeds = _seeds(seed, len(chosen))
    for (label, engine), own in zip(chosen.items(), seeds, strict=True):
        started = time.perf_counter()
        try:
            results[label] = engine.run(frozen, np.random.default_rng(own))
        except ResourceError:
            raise
        except BayouError as error:
            refused[label] = f"{label} {'refused' if isinstance(error, Unsupported) else 'failed'}: {error}"
        seconds[label] = time.perf_counter() - started
    if not results:
        raise Unsupported(f"No engine takes this model. {' '.join(refused.values())}")
    verdicts = {label: judge(result, examine(result)) for label, result in results.items()}
    samples = {label: sample_of(result, groups) for label, result in results.items()}
    rows = _shared_rows(samples)
    bar = bar_of(3 * len(rows) * max(len(samples) - 1, 1))
    reference = _reference(samples, rows, bar)
    differences = {
        label: {name: compared(sample, samples[reference], name, bar) for name in rows if name in sample.names}
        for label, sample in samples.items()
        if label != reference
    }
    took = {label: _took(result, seconds[label]) for label, result in results.items()}
    said = {
        label: _sentence(label, reference, samples[label], own, bar, took[label])
        for label, own in differences.items()
    }
    posteriors = [label for label, sample in samples.items() if sample.kind != "estimates"]
    agree = all(not one.trouble for label in posteriors if label != reference for one in differences[label].values())
    said[reference] = _of_reference(reference, samples, differences, took[reference])
    for label in said:
        if not verdicts[label].ok:
            said[label] += f" Its own verdict is NOT OK: {' '.join(verdicts[label].failures)}"
    return Agreement(
        frozen, results, verdicts, seconds, reference, _table(samples, differences, reference),
        tuple({**said, **refused}[label] for label in chosen),
        len(posteriors) > 1 and agree and all(verdicts[label].ok for label in posteriors),
    )  # fmt: skip


# ---- what is run -----------------------------------------------------------------------------


def _engines(given: Sequence[str | Engine], settings: Mapping[str, Any]) -> dict[str, Engine]:
    """Return the engines by name, each with those of the settings that it has."""
    if isinstance(given, str) or len(given) < 2:
        raise DataError("agreement compares two engines or more: engines=['gibbs', 'inla'].")
    if settings.get("store") is not None:
        raise DataError("agreement takes no store=: the engines would write into the same folder.")
    made = [known_engines.get(one) for one in given]
    names = [{f.name for f in fields(one)} for one in made]
    for name in settings:
        if not any(name in own for own in names):
            known_engines.get(made[0], **{name: settings[name]})  # says what there is instead
    chosen: dict[str, Engine] = {}
    for one, own in zip(made, names, strict=True):
        engine = known_engines.get(one, **{name: value for name, value in settings.items() if name in own})
        label = engine.name
        if sum(other.name == engine.name for other in made) > 1:
            label = engine.describe()
        if label in chosen:
            raise DataError(f"agreement was given {label} twice.")
        chosen[label] = engine
    return chosen


def _seeds(seed: int | None, count: int) -> list[np.random.SeedSequence]:
    """Return a seed for each engine: with the same one, two samplers would share their noise."""
    if seed is not None and (not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0):
        raise DataError(f"seed={seed!r}: give a whole number of at least 0, or None.")
    return np.random.SeedSequence(None if seed is None else int(seed)).spawn(count)


# ---- who is compared with whom ---------------------------------------------------------------


def _shared_rows(samples: Mapping[str, Sample]) -> list[str]:
    """Return the rows that every posterior has, in the order of the first; of estimates where there is none."""
    posteriors = [sample for sample in samples.values() if sample.kind != "estimates"] or list(samples.values())
    return [name for name in posteriors[0].names if all(name in sample.names for sample in posteriors)]


def _reference(samples: Mapping[str, Sample], rows: Sequence[str], bar: float) -> str:
    """Return the posterior that agrees with the most others; of several such the first."""
    posteriors = [label for label, sample in samples.items() if sample.kind != "estimates"] or list(samples)[:1]
    count = dict.fromkeys(posteriors, 0)
    for one, other in combinations(posteriors, 2):
        if not any(compared(samples[one], samples[other], name, bar).trouble for name in rows):
            count[one] += 1
            count[other] += 1
    return max(posteriors, key=lambda label: count[label])


# ---- words -----------------------------------------------------------------------------------


def _took(result: Posterior, seconds: float) -> str:
    """Return the seconds, and whether an approximation ended as a Markov chain."""
    chained = ", by a Markov chain after its check failed" if result.approximation and result.chained else ""
    return f"({seconds:.2g} s{chained})"


def _sentence(
    label: str, reference: str, sample: Sample, found: Mapping[str, Difference], bar: float, took: str
) -> str:
    if not found:
        return f"{label} {took} shares no parameter with {reference}."
    if sample.kind == "estimates":
        return f"{label} {took} {_estimates(reference, found)}"
    trouble = [one.trouble for one in found.values() if one.trouble]
    if trouble:
        more = f"; and {len(trouble) - SHOWN} more" if len(trouble) > SHOWN else ""
        return f"{label} {took} differs from {reference}: {'; '.join(trouble[:SHOWN])}{more}."
    name, one = max(found.items(), key=lambda item: abs(item[1].shift))
    ratios = [abs(other.ratio - 1.0) for other in found.values() if np.isfinite(other.ratio)]
    said = (
        f"{label} {took} agrees with {reference} in all {len(found)} parameters: the largest difference is "
        f"{one.shift:+.3f} ± {one.error:.3f} posterior sds ({name}), sds differ by at most "
        f"{max(ratios, default=0.0):.1%}."
    )
    worst = max(bar * other.error for other in found.values())
    if worst > COARSE:
        said += f" With so few effective draws a difference of up to {worst:.2g} posterior sds would not be seen."
    return said


def _estimates(reference: str, found: Mapping[str, Difference]) -> str:
    """Say how far a maximum lies from the means, and that it is no mean."""
    parts = []
    for word, wanted in (("fixed effects", True), ("sds and other parameters", False)):
        own = {name: one for name, one in found.items() if name.startswith("beta[") == wanted}
        shifts = {name: one.shift for name, one in own.items() if np.isfinite(one.shift)}
        if shifts:
            name = max(shifts, key=lambda row: abs(shifts[row]))
            parts.append(f"{word} within {abs(shifts[name]):.2g} posterior sds of those of {reference} ({name})")
    ratios = [one.ratio for one in found.values() if np.isfinite(one.ratio)]
    errors = f", standard errors {min(ratios):.2g} to {max(ratios):.2g} times the posterior sds" if ratios else ""
    return (
        f"gives estimates, not a posterior: {'; '.join(parts)}{errors}. A maximum is no mean: where a posterior is "
        "skewed, as of sds, the two differ and nobody is wrong."
    )


def _of_reference(
    reference: str, samples: Mapping[str, Sample], found: Mapping[str, Mapping[str, Difference]], took: str
) -> str:
    others = [label for label, sample in samples.items() if label != reference and sample.kind != "estimates"]
    if samples[reference].kind == "estimates":
        return f"{reference} {took} gives estimates; no engine gave a posterior to compare with."
    if not others:
        return f"{reference} {took} gave the only posterior: there is none to compare with."
    same = [label for label in others if not any(one.trouble for one in found[label].values())]
    if not same:
        return f"{reference} {took} agrees with no other engine; the others are compared with it."
    return f"{reference} {took} agrees with {' and '.join(same)}; the others are compared with it."


def _table(
    samples: Mapping[str, Sample], differences: Mapping[str, Mapping[str, Difference]], reference: str
) -> pd.DataFrame:
    import pandas as pd

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for k, name in enumerate(samples[reference].names):
        for label, sample in samples.items():
            if name not in sample.names or (label != reference and name not in differences[label]):
                continue
            at = sample.at([name])[0] if label != reference else k
            one = differences[label][name] if label != reference else Difference(0.0, 0.0, 1.0, 0.0, 0.0, False, "")
            by = "median and quantiles" if one.heavy else "mean and sd"
            rows[name, label] = {
                "kind": sample.kind, "mean": sample.mean[at], "sd": sample.sd[at], "difference": one.shift,
                "error": one.error, "ratio": one.ratio, "ratio_error": one.ratio_error, "distance": one.distance,
                "ess": sample.size[at], "by": by, "agrees": None if sample.kind == "estimates" else not one.trouble,
            }  # fmt: skip
    index = pd.MultiIndex.from_tuples(list(rows), names=["parameter", "engine"])
    return pd.DataFrame(list(rows.values()), index=index)

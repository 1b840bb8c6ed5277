"""Likelihood-ratio tests between nested models, and the table that compares fits by their likelihoods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import gammaincc

from bayou import engines
from bayou._types import Array
from bayou.errors import DataError, Unsupported
from bayou.inference.bootstrap import replicated
from bayou.inference.estimated import RESTRICTED, estimates_of, whole
from bayou.inference.nested import Nesting, nesting, open_parts, same_data, same_fixed
from bayou.inference.refits import Refit, refit

if TYPE_CHECKING:
    from bayou.posterior import Estimates, Posterior

__all__ = ["Comparison", "chi_squared_tail", "compared", "mixture_tail"]

WHAT = "A likelihood-ratio test"
EXACT = ("ML", "Laplace")  # the same number for a Gaussian response


def chi_squared_tail(x: float, df: int) -> float:
    """Return P(chi-squared with ``df`` degrees of freedom >= x); with none it is zero for sure."""
    if df == 0:
        return 1.0 if x <= 0.0 else 0.0
    return float(gammaincc(0.5 * df, 0.5 * max(x, 0.0)))


def mixture_tail(x: float, df: int) -> float:
    """Return the tail of ½ chi²(df − 1) + ½ chi²(df): one of ``df`` parameters lies on its border.

    References
    ----------
    Self & Liang, JASA 82 (1987), case 5. Stram & Lee, Biometrics 50 (1994), cases 1 and 3.

    Examples
    --------
    >>> round(mixture_tail(2.7055, 1), 4)
    0.05
    """
    return 0.5 * chi_squared_tail(x, df - 1) + 0.5 * chi_squared_tail(x, df)


class Comparison(pd.DataFrame):
    """A frame that prints its notes beneath it.

    Attributes
    ----------
    notes
        Sentences: what was refitted, which rows could not be tested, how p was found.
    """

    _metadata = ("notes",)
    notes: tuple[str, ...] = ()

    @property
    def _formatted(self) -> pd.DataFrame:
        digits: dict[str, Callable[[float], str]] = {
            "parameters": lambda x: f"{x:.0f}",
            "df": lambda x: f"{x:.0f}",
            "chi_squared": lambda x: f"{x:.4g}",
        }
        plain = self.copy(deep=False)
        out = pd.DataFrame(index=plain.index)
        for name in plain.columns:
            write = digits.get(name, _p_value if name.startswith("p") else _three)
            out[name] = ["" if pd.isna(x) else write(x) for x in plain[name]]
        return out

    def __str__(self) -> str:
        return "\n".join([self._formatted.to_string(), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html

        lines = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"{self._formatted.to_html()}{lines}"


def _three(x: float) -> str:
    return f"{x:.3f}"


def _p_value(x: float) -> str:
    return f"{x:.4f}" if x >= 1e-4 else f"{x:.1e}"


@dataclass
class _Entry:
    """One fit of the table: its result (refitted where that was due) and its label."""

    label: str
    posterior: Posterior

    @property
    def estimates(self) -> Estimates:
        return estimates_of(self.posterior, WHAT)


def compared(
    posteriors: Sequence[Posterior],
    labels: Sequence[str],
    bootstrap: int = 0,
    seed: int | None = None,
    cores: int | None = None,
) -> Comparison:
    """Compare fits of likelihood engines; see `bayou.compare`."""
    whole("bootstrap", bootstrap, 0)
    first = posteriors[0].model.design
    for number, other in enumerate(posteriors[1:], start=2):
        design = other.model.design
        if not same_data(first, design):
            raise DataError(
                f"fit {number} is of another response than fit 1 ({design.given:,} rows of {design.response_name}, not "
                f"{first.given:,} of {first.response_name}): likelihoods compare only on the same rows."
            )
    entries = [_Entry(label, one) for label, one in zip(labels, posteriors, strict=True)]
    notes = _on_one_footing(entries)
    for entry in entries:
        entry.estimates.require_likelihood("A comparison of likelihoods")
    notes += _free_parts(entries)
    entries.sort(key=lambda e: e.estimates.parameters)
    rows = []
    for k, entry in enumerate(entries):
        found = entry.estimates
        row = {
            "parameters": found.parameters,
            "log_likelihood": found.log_likelihood,
            "aic": found.aic,
            "bic": found.bic,
            **dict.fromkeys(("chi_squared", "df", "p", "p_naive"), np.nan),
        }
        if bootstrap:
            row["p_bootstrap"] = np.nan
        if k:
            row |= _test(entries[k - 1], entry, notes)
            if bootstrap and np.isfinite(row["chi_squared"]):
                ratio = row["chi_squared"]
                row["p_bootstrap"] = _simulated(entries[k - 1], entry, ratio, bootstrap, seed, cores, notes)
        rows.append(row)
        if not found.converged:
            notes.append(f"{entry.label}: the search did not converge, its likelihood is not the highest.")
    table = Comparison(rows, index=pd.Index([e.label for e in entries], name="model"))
    table.notes = tuple(dict.fromkeys(notes))
    return table


def _on_one_footing(entries: list[_Entry]) -> list[str]:
    """Refit by maximum likelihood what was fitted by REML, unless all fits have the same fixed effects."""
    restricted = [e for e in entries if e.estimates.method in RESTRICTED]
    notes = []
    if restricted:
        first = entries[0].posterior.model
        same = all(same_fixed(first, e.posterior.model) for e in entries[1:])
        if len(restricted) == len(entries) and same:
            notes.append("Restricted likelihoods: all models have the same fixed effects.")
        else:
            for entry in restricted:
                entry.posterior = _refitted(entry.posterior)
            names = ", ".join(e.label for e in restricted)
            notes.append(
                f"Refitted by ML instead of REML: {names}. Restricted likelihoods do not compare models whose fixed "
                "effects differ."
            )
    methods = {e.estimates.method for e in entries}
    gaussian = all(str(e.posterior.model.family) == "gaussian(link = identity)" for e in entries)
    if len(methods) > 1 and not (gaussian and methods <= set(EXACT)):
        notes.append(
            f"The likelihoods are approximated in different ways ({', '.join(sorted(methods))}): differences between "
            "them are partly those of the methods."
        )
    return notes


def _free_parts(entries: list[_Entry]) -> list[str]:
    """Say that likelihoods which integrate over different flat directions have different constants."""
    parts = [sorted(open_parts(e.posterior.model)) for e in entries]
    if all(own == parts[0] for own in parts):
        return []
    named = ", ".join(dict.fromkeys(part for own in parts for part in own))
    return [
        f"The likelihood integrates over what the prior of {named} leaves free, such as a line, as REML does over "
        "fixed effects: it is known up to a constant there, and neither AIC nor BIC compare it with models without."
    ]


def _refitted(posterior: Posterior) -> Posterior:
    """Fit by maximum likelihood what was fitted by REML."""
    method = RESTRICTED[estimates_of(posterior, WHAT).method]
    return engines.get(method.lower()).run(posterior.model, np.random.default_rng(0))


def _test(small: _Entry, large: _Entry, notes: list[str]) -> dict[str, float]:
    """Test the smaller model against the larger one; a note says why not, or how."""
    pair = f"{small.label} and {large.label}"
    a, b = small.estimates, large.estimates
    df = b.parameters - a.parameters
    found = Nesting("the criterion has priors in it") if a.priors_used or b.priors_used else None
    found = nesting(small.posterior.model, large.posterior.model) if found is None else found
    if not found.reason and df == 0:
        found = Nesting("they have the same number of parameters")
    if found.reason:
        notes.append(f"{pair}: not nested, {found.reason}; compare their AIC or BIC.")
        return {}
    x = 2.0 * (b.log_likelihood - a.log_likelihood)
    if x < -1e-4:
        notes.append(
            f"{pair}: the larger model has the lower likelihood, so that one of the searches ended too early or at "
            "another maximum; no test."
        )
        return {}
    x = max(x, 0.0)
    naive = chi_squared_tail(x, df)
    p = naive
    if found.directions == 1:
        p = mixture_tail(x, df)
        notes.append(
            f"{pair}: a variance is zero in the smaller model, the border of what it can be. p is from "
            f"½ chi²({df - 1}) + ½ chi²({df}), p_naive from chi²({df})."
        )
    elif found.directions > 1:
        notes.append(
            f"{pair}: {found.directions} variances are zero in the smaller model, the border of what they can be. p is "
            f"from chi²({df}) and too large; compare(…, bootstrap=1000) simulates the right one."
        )
    if found.directions and a.singular:
        notes.append(f"{small.label} is singular itself, so that p is approximate; bootstrap=1000 simulates it.")
    return {"chi_squared": x, "df": df, "p": p, "p_naive": naive}


# ---- the simulated null distribution ---------------------------------------------------------


@dataclass
class _Pair:
    """Two models that are fitted to responses of the smaller."""

    small: Refit
    large: Refit

    def twin(self) -> _Pair:
        return _Pair(self.small.twin(), self.large.twin())

    def again(self, rng: np.random.Generator) -> float:
        y = self.small.draw(rng)
        one, two = self.small.fit(y), self.large.fit(y)
        if one.failure is not None or two.failure is not None:
            return np.nan
        return 2.0 * (two.log_likelihood - one.log_likelihood)


def _simulated(
    small: _Entry, large: _Entry, x: float, count: int, seed: int | None, cores: int | None, notes: list[str]
) -> float:
    """Return how often responses of the smaller model give a ratio as large as that of the data.

    (1 + number)/(1 + count): Davison & Hinkley (1997), section 4.2.
    """
    one, two = small.posterior.model.design, large.posterior.model.design
    reduced = one.reduced is not None or two.reduced is not None
    if reduced and not (np.array_equal(one.y, two.y) and np.array_equal(one.trials, two.trials)):
        notes.append(
            f"{small.label} and {large.label}: no bootstrap, as the rows of each were merged by its own columns. Fit "
            "both in memory (stream=False)."
        )
        return np.nan
    try:
        pair = _Pair(refit(small.posterior, WHAT), refit(large.posterior, WHAT))
    except Unsupported as refused:
        notes.append(f"{small.label} and {large.label}: no bootstrap. {refused}")
        return np.nan
    drawn, interrupted = replicated(
        pair, lambda own: own.again, count, np.random.SeedSequence(seed), cores, progress=None
    )
    ratios: Array = np.array([r for r in drawn if r is not None and np.isfinite(r)])
    failed = sum(r is not None for r in drawn) - len(ratios)
    if failed:
        notes.append(f"{small.label} and {large.label}: {failed:,} of {count:,} simulated pairs of fits failed.")
    if interrupted:
        notes.append(f"{small.label} and {large.label}: interrupted after {len(ratios):,} simulated pairs.")
    return float((1 + np.sum(ratios >= x - 1e-9)) / (1 + len(ratios)))

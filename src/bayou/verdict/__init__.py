"""How far a result can be trusted: the diagnostics of every row, and a verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from bayou.verdict.chains import Diagnostics, heavy_tails, judge_chains
from bayou.verdict.chains import examine as _examine
from bayou.verdict.sentences import Verdict

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["Diagnostics", "Verdict", "examine", "judge", "of_the_engine"]

_known: WeakKeyDictionary[Posterior, Diagnostics] = WeakKeyDictionary()


def examine(posterior: Posterior, keep: bool = False) -> Diagnostics:
    """Compute the diagnostics of every summary row; there are none where draws are independent.

    ``keep`` says that they will be asked for again, as those of a run are that was judged before it was returned.
    """
    found = _known.get(posterior)
    if found is None:
        found = _examine(posterior)
        if keep:
            _known[posterior] = found
    return found


def judge(posterior: Posterior, numbers: Diagnostics) -> Verdict:
    """Turn a result and its diagnostics into a verdict."""
    if posterior.estimates is not None:
        from bayou.verdict.likelihood import judge_estimates

        return judge_estimates(posterior, posterior.estimates)
    if posterior.approximation is not None and not posterior.chained:
        from bayou.verdict.densities import judge_approximation

        return judge_approximation(posterior, posterior.approximation)
    return judge_chains(posterior, numbers)


def of_the_engine(posterior: Posterior, verdict: Verdict, numbers: Diagnostics) -> tuple[str, ...]:
    """Return the failures of a verdict that another engine need not have: heavy tails are those of the posterior."""
    own = heavy_tails(posterior, numbers) if posterior.chained else []
    return tuple(sentence for sentence in verdict.failures if sentence not in own)

"""How far a result can be trusted: the diagnostics of every row, and a verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayou.diagnose.chains import Diagnostics, examine, judge_chains
from bayou.diagnose.verdict import Verdict

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["Diagnostics", "Verdict", "examine", "judge"]


def judge(posterior: Posterior, numbers: Diagnostics) -> Verdict:
    """Turn a result and its diagnostics into a verdict."""
    if posterior.estimates is not None:
        from bayou.diagnose.likelihood import judge_estimates

        return judge_estimates(posterior, posterior.estimates)
    if posterior.approximation is not None and not posterior.chained:
        from bayou.diagnose.densities import judge_approximation

        return judge_approximation(posterior, posterior.approximation)
    return judge_chains(posterior, numbers)

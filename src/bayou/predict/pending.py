"""What is known of each row or group that was left out, and what is left to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from bayou._types import Array, Integers, Labels
from bayou.errors import BayouError, DataError, Unsupported
from bayou.formula.words import plural
from bayou.predict.without import engine_of, refitted

if TYPE_CHECKING:
    from bayou.posterior import Posterior

__all__ = ["Exact", "Work", "check"]

Exact: TypeAlias = bool | Literal["auto"]
AUTOMATIC, SLOW = 10, 30.0  # refits that exact="auto" makes, and seconds of one fit from which it makes none


def check(exact: object) -> None:
    """Refuse what is none of the three."""
    if exact not in (True, False, "auto"):
        raise DataError(f"exact={exact!r}: give True, False or 'auto'.")


@dataclass(eq=False)
class Work:
    """What is known of each row or group, and sentences about it."""

    posterior: Posterior
    elpd: Array
    k: Array
    good: float
    what: str
    start: str = "psis"
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.method = np.full(len(self.elpd), self.start, dtype=object)

    def bad(self) -> Integers:
        """Return the places whose weights cannot be trusted."""
        return np.flatnonzero(~(self.k <= self.good) | ~np.isfinite(self.elpd))

    def take(self, i: int, elpd: float, k: float, method: str = "integrated") -> None:
        """Take another answer where it can be trusted more."""
        if np.isfinite(elpd) and (k < self.k[i] or (k < self.good and self.method[i] == "psis")):
            self.elpd[i], self.k[i], self.method[i] = elpd, k, method

    def tell_integrated(self) -> None:
        """Say what integrating has done."""
        done = self.method == "integrated"
        if done.any():
            self.notes.append(
                f"Of {plural(int(done.sum()), 'row')} whose weights may have a heavy tail the coefficients of their "
                f"groups were integrated out: k-hat is then at most {self.k[done].max():.2f}."
            )

    def refit(
        self,
        exact: Exact,
        rows: Sequence[Integers],
        density: Callable[[Posterior, int], float],
        branch: int,
        labels: Labels,
        one: bool = False,
    ) -> None:
        """Fit the model without what is still bad, as far as ``exact`` says.

        With ``one`` the rows are numbers of different rows as given, of each of which one is left out.
        """
        bad = self.bad()
        seconds = float(self.posterior.info.get("seconds", 0.0))
        what = self.what
        count = len(bad) if exact else 0
        why = ""
        if count:
            try:
                engine_of(self.posterior)
            except Unsupported:
                if exact is True:
                    raise
                count, why = 0, " The engine cannot be made again from its name."
        if count and exact == "auto":
            count = 0 if seconds > SLOW else min(count, AUTOMATIC)
            why = " A fit takes too long to be made again unasked." if seconds > SLOW else (
                f" At most {AUTOMATIC} fits are made unasked."
            )  # fmt: skip
        chosen = bad[np.argsort(-self.k[bad], kind="stable")][:count]
        failed, loose = [], 0
        for i in np.sort(chosen):
            try:
                result, agree = refitted(self.posterior, rows[i], (branch, int(i)), one)
            except BayouError as problem:
                failed.append(f"{labels[i]} ({problem})")
                continue
            loose += not agree
            self.elpd[i], self.k[i], self.method[i] = density(result, int(i)), 0.0, "refit"
        done = int((self.method == "refit").sum())
        if done:
            self.notes.append(f"For {plural(done, what)} the model was fitted without {'it' if done == 1 else 'them'}.")
        if loose:
            self.notes.append(f"In {loose} of these fits the chains do not agree: fit with more draws.")
        if failed:
            self.notes.append(f"The model could not be fitted without {what} {'; '.join(failed)}.")
        left = len(self.bad())
        if left:
            self.notes.append(
                f"{plural(left, what)} still {'has' if left == 1 else 'have'} k-hat above {self.good:.2f}, and part of "
                f"elpd is not to be trusted.{why} exact=True fits the model without each of them."
            )

"""The parametric bootstrap: the model fitted again to responses drawn from itself."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from bayou._types import Array
from bayou.engines.progress import Bar
from bayou.engines.resources import noticed
from bayou.errors import DataError
from bayou.inference.estimated import chosen, estimates_of, whole
from bayou.inference.refits import Refit, Refitted, natural_table, refit
from bayou.posterior.summaries import probability

if TYPE_CHECKING:
    import pandas as pd

    from bayou.posterior import Posterior

__all__ = ["Bootstrap", "Kind", "bootstrap"]

Kind: TypeAlias = Literal["percentile", "basic", "normal"]
KINDS = ("percentile", "basic", "normal")
WHAT = "The bootstrap"


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Replicates of the estimates.

    Attributes
    ----------
    estimate
        The estimates themselves, by name of the summary row.
    replicates
        One row for each refit that ended well, one column for each row of the summary.
    log_likelihood
        Of each of these.
    failures
        How many refits failed, by what was wrong with them.
    asked
        How many refits were wanted.
    seed
        That repeats them.
    seconds
        What they took.
    messages
        Sentences: failures, an interruption.
    """

    estimate: pd.Series[float]
    replicates: pd.DataFrame
    log_likelihood: Array = field(repr=False)
    failures: dict[str, int]
    asked: int
    seed: int
    seconds: float
    messages: tuple[str, ...] = ()

    @property
    def se(self) -> pd.Series[float]:
        """Standard errors: the standard deviations of the replicates."""
        return self.replicates.std(ddof=1)

    @property
    def bias(self) -> pd.Series[float]:
        """Mean of the replicates minus the estimate."""
        return self.replicates.mean() - self.estimate

    def interval(
        self, level: float = 0.95, kind: Kind = "percentile", parameters: str | Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Return intervals.

        Parameters
        ----------
        level
            Confidence level.
        kind
            "percentile": quantiles of the replicates. "basic": these mirrored in the estimate, 2 estimate − quantile.
            "normal": estimate − bias ± z se. The last two are cut to what a parameter can be.
        parameters
            Rows of the summary, or what they begin with; None takes all.

        Returns
        -------
        pandas.DataFrame
            ``lower``, ``upper``, one row per parameter.

        Raises
        ------
        DataError
            For a kind, level or parameter that there is not, or fewer than two replicates.

        References
        ----------
        Davison & Hinkley (1997), Bootstrap Methods and their Application, chapter 5.
        """
        import pandas as pd
        from scipy.special import ndtri

        level = probability(level)
        if kind not in KINDS:
            raise DataError(f"kind={kind!r}: give one of {', '.join(map(repr, KINDS))}.")
        if len(self.replicates) < 2:
            raise DataError(f"{len(self.replicates)} replicates give no interval: ask for more, such as 1000.")
        names = chosen(list(self.replicates.columns), parameters)
        own, centre = self.replicates[names], self.estimate[names]
        if kind == "normal":
            reach = float(ndtri(0.5 + level / 2.0)) * self.se[names]
            lower, upper = centre - self.bias[names] - reach, centre - self.bias[names] + reach
        else:
            lower, upper = own.quantile(0.5 - level / 2.0), own.quantile(0.5 + level / 2.0)
            if kind == "basic":
                lower, upper = 2.0 * centre - upper, 2.0 * centre - lower
        frame = pd.DataFrame({"lower": lower, "upper": upper}, index=names)
        for name in names:
            if not name.startswith("beta["):
                ends = (-1.0, 1.0) if name.startswith("cor_") else (0.0, np.inf)
                frame.loc[name] = frame.loc[name].clip(*ends)
        return frame

    def summary(self, level: float = 0.95, kind: Kind = "percentile") -> pd.DataFrame:
        """Return estimate, bias, se, lower and upper, one row per parameter."""
        columns = {"estimate": self.estimate, "bias": self.bias, "se": self.se}
        return self.interval(level, kind).assign(**columns)[[*columns, "lower", "upper"]]

    def __str__(self) -> str:
        head = f"Parametric bootstrap: {len(self.replicates):,} of {self.asked:,} refits in {self.seconds:.2f} s"
        if len(self.replicates) < 2:
            return "\n".join([head, *self.messages])
        table = self.summary().to_string(float_format=lambda x: f"{x:.4g}")
        return "\n".join([head, "", table, "", "lower, upper: percentiles, 95 %", *self.messages])

    __repr__ = __str__


def bootstrap(
    posterior: Posterior,
    replicates: int = 1000,
    seed: int | None = None,
    cores: int | None = None,
    progress: bool | None = None,
) -> Bootstrap:
    """Fit the model again to responses drawn from it at the estimates.

    Parameters
    ----------
    posterior
        The result of a likelihood engine; the refits are by the same method.
    replicates
        How many.
    seed
        The same seed gives the same replicates, for any number of threads.
    cores
        Threads; None uses as many as there are processors.
    progress
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    Bootstrap
        With fewer replicates, and a message, if it was interrupted.

    Raises
    ------
    Unsupported
        After a sampler, a fit with priors, or prior weights of a family that is not Gaussian.
    DataError
        For settings that make no sense.
    """
    import pandas as pd

    replicates = whole("replicates", replicates)
    if seed is not None:
        whole("seed", seed, 0)
    found = estimates_of(posterior, WHAT)
    started = time.perf_counter()
    entropy = np.random.SeedSequence(seed)
    first = refit(posterior, WHAT)

    def again(own: Refit) -> Callable[[np.random.Generator], Refitted]:
        return own.again

    drawn, interrupted = replicated(first, again, replicates, entropy, cores, progress)
    kept = [one for one in drawn if one is not None]
    good = [one for one in kept if one.failure is None]
    failures = dict(Counter(one.failure for one in kept if one.failure is not None))
    model = posterior.model
    frame = pd.DataFrame(_table(first, good, found.rows), columns=list(found.rows))
    messages = [f"{count:,} of {len(kept):,} refits failed: {what}." for what, count in failures.items()]
    if interrupted:
        messages.insert(0, f"Interrupted: {len(kept):,} of {replicates:,} refits were made and are kept.")
    if model.design.n and found.singular:
        messages.append(
            "The fit is singular, and responses drawn from it are too: its replicates understate how far the "
            "covariances may be off."
        )
    return Bootstrap(
        estimate=pd.Series(found.estimate, index=list(found.rows), name="estimate"),
        replicates=frame,
        log_likelihood=np.array([one.log_likelihood for one in good]),
        failures=failures,
        asked=replicates,
        seed=int(entropy.entropy),  # type: ignore[arg-type]
        seconds=time.perf_counter() - started,
        messages=tuple(messages),
    )


def _table(first: Refit, good: list[Refitted], rows: tuple[str, ...]) -> Array:
    """Return the estimates of refits as summary rows, (refits, rows)."""
    model = first.model
    if not good:
        return np.zeros((0, len(rows)))
    # row by row, so that no replicate depends on how many there are
    beta = np.einsum("sp,qp->sq", np.array([one.beta for one in good]), model.working.to_printed)
    T, dispersion = np.array([one.T for one in good]), np.array([one.dispersion for one in good])
    named = model.family.dispersion
    dispersions = named is not None and any(row.partition("[")[0] == named for row in rows)
    return np.hstack([beta, natural_table(model, first.order, T, dispersion, dispersions)])


def replicated(
    first: Any,
    task: Callable[[Any], Callable[[np.random.Generator], Any]],
    count: int,
    seed: np.random.SeedSequence,
    cores: int | None,
    progress: bool | None,
) -> tuple[list[Any], bool]:
    """Run a task ``count`` times in threads, each run with a generator of its own.

    Parameters
    ----------
    first
        What one thread works with; ``twin()`` makes another.
    task
        Makes the task of such a thing: a function of a generator.
    count, seed
        How many runs, and whose children seed them.
    cores, progress
        Threads, and whether to show a bar.

    Returns
    -------
    list, bool
        What the runs returned, None for those that were not made; and whether Ctrl-C ended it.
    """
    threads = min(whole("cores", os.cpu_count() or 1 if cores is None else cores), count)
    children = seed.spawn(count)
    out: list[Any] = [None] * count
    stop = threading.Event()
    numbers = itertools.count()
    made = itertools.count()
    done = [0]

    def work(own: Any) -> None:
        run = task(own)
        while not stop.is_set():
            k = next(numbers)
            if k >= count:
                return
            out[k] = run(np.random.Generator(np.random.PCG64(children[k])))
            done[0] = next(made) + 1

    interrupted = False
    with threadpool_limits(1, user_api="blas"), noticed() as signals, ThreadPoolExecutor(threads) as pool:
        workers = [first, *(first.twin() for _ in range(threads - 1))]
        jobs = [pool.submit(work, own) for own in workers]
        try:
            with Bar(count, progress, "refitting", "refits") as bar:
                while not signals and wait(jobs, timeout=0.1).not_done:
                    bar.update(done[0])
                    if any(job.done() and job.exception() for job in jobs):
                        stop.set()
        except KeyboardInterrupt:
            interrupted = True
        if interrupted or signals:
            interrupted = True
            stop.set()
            wait(jobs)
        for job in jobs:
            job.result()
    return out, interrupted

"""Leave-one-out and leave-one-group-out cross-validation: what the weights cannot say is computed otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from bayou._types import Array, Integers, Labels
from bayou.errors import DataError, Unsupported
from bayou.formula.words import plural
from bayou.predict.integrated import Some
from bayou.predict.loo import LogLikelihood, relative_efficiency, smoothed, weighted
from bayou.predict.marginalised import row_densities
from bayou.predict.pending import Exact, Work, check

if TYPE_CHECKING:
    from bayou.design import Design
    from bayou.posterior import Posterior
    from bayou.predict.elpd import Elpd

__all__ = ["Exact", "group_labels", "leave_group_out", "loo"]

# k-hat, and effective parameters of one row, from which its groups are integrated: that costs little, and a k-hat of
# some thousand draws does not see all of a tail
HEAVY, OWN = 0.4, 0.2
MOST_ROWS, MOST_COEFFICIENTS = 1000, 3  # of groups that are integrated for the sake of one row
MOST_DRAWS, FEW_DRAWS = 4000, 1000  # at which groups are integrated; with many coefficients
ROWS, GROUPS = 1, 2  # branches of the seed


def loo(posterior: Posterior, exact: Exact = "auto") -> Elpd:
    """Leave-one-out cross-validation: log p(y_i | all other rows), summed over rows.

    Each row by Pareto-smoothed importance weights 1 / p(y_i | draw). Where these have a heavy tail and the row has
    groups, the coefficients of these are integrated out, given all others: weights 1 / p(y_i | y of the group without
    it, other parameters), which vary less. Where that does not do, or there are structured effects, all coefficients
    are integrated out given the hyperparameters, exactly for a Gaussian response and by Laplace's approximation
    otherwise. Where that does not do either, the model is fitted without the row.

    Parameters
    ----------
    posterior
        A result that kept draws of the group coefficients.
    exact
        True fits the model again for every row that needs it, and approximates nothing; "auto" for up to 10, if a fit
        takes at most 30 seconds; False for none.

    Returns
    -------
    Elpd
        An ``arviz_stats.ELPDData``; its ``notes`` say what was done, ``warning`` whether something is left to do.

    Raises
    ------
    Unsupported
        If no draws of the group coefficients were kept, or the engine cannot be made again.
    DataError
        If ``exact`` is something else.

    Notes
    -----
    A row is a row as given: of a binomial response all its trials together, of a row with weight w the density to the
    power of w, as if its w copies were left out together. Where identical rows were merged one of them is left out.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Statistics and Computing 27, 1413-1432; Merkle, Furr & Rabe-Hesketh (2019),
    Psychometrika 84, 802-829, for the integrated form.
    """
    from bayou.predict.elpd import assembled

    check(exact)
    density = LogLikelihood(posterior)
    n, S = density.shape[2], density.shape[0] * density.shape[1]
    found = weighted(density)
    work = Work(posterior, found.elpd_i, found.pareto_k, found.good_k, what="row")
    heavy = np.flatnonzero(~(found.pareto_k <= HEAVY) | (found.lppd_i - found.elpd_i > OWN))
    if density.design.groupings and len(heavy):
        _integrate(LogLikelihood(_fewer(posterior, MOST_DRAWS)), work, heavy, found.efficiency)
    own = heavy[work.method[heavy] == "psis"] if density.design.structured else heavy[:0]
    _marginalise(posterior, work, own, exact)

    def after(result: Posterior, i: int) -> float:
        return float(_log_mean(LogLikelihood(result).all(i, i + 1).ravel()))

    labels, frequency = density.rows.index, density.frequency
    work.refit(exact, [np.array([i]) for i in range(n)], after, ROWS, labels, one=True)
    given = int(frequency.sum())
    if given > n:
        work.notes.append(f"The {given:,} rows as given are {n:,} different ones: each is computed once, and counts.")
    return assembled(
        work.elpd, float(np.sum(frequency * found.lppd_i)), work.k, work.method, of="row", labels=labels,
        rows=frequency.astype(np.int64), samples=S, good_k=found.good_k, notes=tuple(work.notes), frequency=frequency,
    )  # fmt: skip


def leave_group_out(posterior: Posterior, by: str | Labels, exact: Exact = "auto", name: str = "group") -> Elpd:
    """Leave out the rows of one group at a time: log p(y_g | the rows of all other groups).

    That is the predictive density of a new group: its own coefficients are not known and integrated out over
    N(0, Sigma), together with those of levels that it alone has (nested factors), by adaptive quadrature. The draws of
    everything else are weighted by 1 / p(y_g | beta, Sigma, dispersion, other coefficients), Pareto-smoothed; where
    k-hat is too large the model is fitted without the group.

    Parameters
    ----------
    posterior
        A result that kept draws of the group coefficients.
    by
        A grouping factor, a column of the data that the formula uses, or the labels of the rows themselves (n,).
    exact
        As for `loo`.
    name
        Of the groups, where labels are given.

    Returns
    -------
    Elpd
        One number for each group; ``table`` is a frame of them, ``elpd`` their sum with ``se``.

    Raises
    ------
    Unsupported
        If no draws of the group coefficients were kept, or the engine cannot be made again.
    DataError
        If there is no such factor or column.

    References
    ----------
    Merkle, Furr & Rabe-Hesketh (2019), Psychometrika 84, 802-829.
    """
    from bayou.predict.elpd import assembled

    check(exact)
    design = posterior.model.design
    known, labels, codes = group_labels(design, by)
    name = known or name
    kept = [np.flatnonzero(codes == j) for j in range(len(labels))]
    alone = _alone(design, kept)
    efficiency = relative_efficiency(posterior)
    # many levels of nested factors at once take many points
    most = FEW_DRAWS if any(len(codes) > MOST_COEFFICIENTS for own in alone for _, codes in own) else MOST_DRAWS

    def densities(result: Posterior, j: int, density: LogLikelihood | None = None) -> Array:
        of = LogLikelihood(_fewer(result, most)) if density is None else density
        return Some(of.sample, of.rows, rows[j], alone[j]).log_density()

    density = LogLikelihood(_fewer(posterior, most))
    own = codes[density.kept]
    rows = [np.flatnonzero(own == j) for j in range(len(labels))]
    S = density.sample.size
    J = len(labels)
    elpd, k, lppd = np.empty(J), np.empty(J), np.empty(J)
    for j in range(J):
        logs = densities(posterior, j, density)
        elpd[j], k[j] = smoothed(logs, efficiency)
        lppd[j] = _log_mean(logs)
    good = float(min(1.0 - 1.0 / np.log10(S), 0.7))
    work = Work(posterior, elpd, k, good, what="group", start="integrated")
    if not any(len(levels) for levels in alone):
        work.notes.append(f"The model has no coefficients of its own for {name}: all that it knows is shared.")
        work.method[:] = "psis"
    work.refit(exact, kept, lambda result, j: float(_log_mean(densities(result, j))), GROUPS, labels)
    sizes = np.array([int(density.frequency[own].sum()) for own in rows])
    return assembled(
        work.elpd, float(lppd.sum()), work.k, work.method, of=name, labels=labels, rows=sizes, samples=S, good_k=good,
        notes=tuple(work.notes),
    )  # fmt: skip


def group_labels(design: Design, by: str | Labels) -> tuple[str, Labels, Integers]:
    """Return the name of groups (none of given labels), their labels (J,) and the group of each row (n,)."""
    reduced = design.reduced is not None and design.reduced.how != "blocks"
    factors = ", ".join(repr(g.name) for g in design.groupings) or "none"
    if reduced and by not in [g.name for g in design.groupings]:
        raise Unsupported(
            f"The {design.given:,} rows were reduced to {design.n:,} as they were read: groups can be those of a "
            f"grouping factor only, here {factors}. Fit in memory (stream=False) for others."
        )
    if not isinstance(by, str):
        given = np.asarray(by, dtype=object)
        if given.shape != (design.n,):
            raise DataError(f"Labels of groups have shape {given.shape}; the model has {design.n:,} rows.")
        labels, codes = np.unique(given.astype(str), return_inverse=True)
        return "", labels.astype(object), codes.astype(np.int64)
    for grouping in design.groupings:
        if grouping.name == by:
            used, codes = np.unique(grouping.codes, return_inverse=True)
            return by, grouping.levels[used], codes.astype(np.int64)
    if by in design.data:
        values = design.data[by]
        labels, codes = np.unique(values.astype(str), return_inverse=True)
        return by, labels.astype(object), codes.astype(np.int64)
    raise DataError(
        f"There is no grouping factor or column {by!r} in the model; its factors are {factors}. Labels of its "
        f"{design.n:,} rows may be given instead: leave_group_out(data['{by}'])."
    )


def _alone(design: Design, rows: Sequence[Integers]) -> list[list[tuple[int, Integers]]]:
    """Return for each group the levels of each factor that no other group has."""
    out: list[list[tuple[int, Integers]]] = [[] for _ in rows]
    for g, grouping in enumerate(design.groupings):
        counts = np.bincount(grouping.codes, minlength=len(grouping.levels))
        for j, own in enumerate(rows):
            codes, here = np.unique(grouping.codes[own], return_counts=True)
            mine = codes[here == counts[codes]]
            if len(mine):
                out[j].append((g, mine))
    return out


def _integrate(density: LogLikelihood, work: Work, heavy: Integers, efficiency: float) -> None:
    """Integrate the coefficients of the groups of some rows out: of the smallest group, then of more together."""
    groupings = density.design.groupings
    left = [int(i) for i in heavy]
    for count in range(1, len(groupings) + 1):
        sharing: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for i in left:
            levels = _levels_around(density.design, density.rows.codes, i)
            if len(levels) >= count:
                sharing.setdefault(levels[:count], []).append(i)
        for levels, rows in sharing.items():
            index = np.flatnonzero(np.any([density.rows.codes[g] == code for g, code in levels], axis=0))
            some = Some(density.sample, density.rows, index, [(g, np.array([code])) for g, code in levels])
            whole = some.log_density()
            for row in rows:
                work.take(row, *smoothed(whole - some.log_density(some.times - (index == row)), efficiency))
        left = [i for own in sharing.values() for i in own if work.k[i] > HEAVY or work.method[i] != "integrated"]
    work.tell_integrated()


def _marginalise(posterior: Posterior, work: Work, heavy: Integers, exact: Exact) -> None:
    """Integrate all coefficients out of the rows that are still bad; where that is approximate, unless told not to."""
    bad = np.union1d(work.bad(), heavy)
    if not len(bad):
        return
    found = row_densities(posterior)
    if found is None or (exact is True and not found[1]):
        return
    densities, sure = found
    for i in bad:
        logs = densities[~np.isnan(densities[:, i]), i]
        if len(logs) < len(densities):
            continue
        elpd, k = smoothed(logs, 1.0) if len(logs) > 1 else (float(logs[0]), 0.0)
        work.take(int(i), elpd, k, "marginal")
    done = int((work.method == "marginal").sum())
    if done:
        work.notes.append(
            f"Of {plural(done, 'row')} all coefficients were integrated out at {len(densities)} draws of the "
            "hyperparameters" + ("." if sure else ", by Laplace's approximation; exact=True fits without them instead.")
        )


def _levels_around(design: Design, codes: Sequence[Integers], i: int) -> tuple[tuple[int, int], ...]:
    """Return factors and levels of row i that may be integrated together, those with the fewest rows first."""
    groupings = design.groupings
    members = [np.flatnonzero(own == own[i]) for own in codes]
    index, levels, d = np.zeros(0, dtype=np.int64), [], 0
    for g in sorted(range(len(groupings)), key=lambda g: len(members[g])):
        union, p = np.union1d(index, members[g]), groupings[g].Z.shape[1]
        if len(union) > MOST_ROWS or d + p > MOST_COEFFICIENTS:
            break
        index, d = union, d + p
        levels.append((g, int(codes[g][i])))
    return tuple(levels)


def _fewer(posterior: Posterior, draws: int) -> Posterior:
    """Return a result with about so many draws in all, evenly spaced, of those whose coefficients were kept."""
    kept = posterior.effect_draws
    places = np.arange(len(kept))[:: max(1, len(kept) * posterior.chains // draws)]
    chosen = {
        key: values[:, kept[places] if values.shape[1] == posterior.size else places]
        for key, values in posterior.draws.items()
    }
    info = {key: value for key, value in posterior.info.items() if key != "effect_draws"}
    return replace(posterior, draws=chosen, statistics={}, info=info, group_statistics={}, moments={})


def _log_mean(logs: Array) -> Any:
    return logsumexp(logs) - np.log(len(logs))

"""A set of priors by the name of what they speak of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.errors import PriorError
from bayou.priors.base import Prior
from bayou.priors.coefficient import Normal
from bayou.priors.covariance import InverseWishart
from bayou.priors.scalar import Gamma

if TYPE_CHECKING:
    from bayou.design import Design, Grouping
    from bayou.model import Model


class Priors(Mapping[str, Prior]):
    """Priors by key; what has no key gets the default.

    Parameters
    ----------
    beta
        The fixed effects, as printed (one prior for each, or a joint Normal).
    sd, cor, Sigma
        Standard deviations, correlations or whole covariance matrices of every grouping factor;
        ``Sigma`` excludes the other two. ``sd`` is of structured effects too.
    sigma, dispersion
        The residual sd; or, for every family, the sd-like s (sigma, or 1 / √phi, or 1 / √shape).
    **specific
        ``"beta[x]"``, ``"sd_clinic"``, ``"sd_clinic[x]"``, ``"Sigma_clinic"``, ``"cor_clinic"``,
        ``"variance_clinic"``, ``"precision_clinic"``, ``"sigma2"``, ``"phi"``, ``"shape"``; of
        structured effects ``"sd_t"`` (or variance, precision), ``"rho_t"`` and ``"phi_area"``. The
        specific beats the general. Write keys with brackets in a dict.

    Raises
    ------
    PriorError
        A value is not a prior.

    Examples
    --------
    >>> from bayou.priors import HalfT
    >>> print(Priors(beta=Normal(0, 10), **{"sd_clinic": HalfT(3, 1)}))
    beta ~ Normal(0, 10)
    sd_clinic ~ HalfT(3, 1)
    """

    def __init__(
        self,
        beta: Prior | None = None,
        sd: Prior | None = None,
        cor: Prior | None = None,
        Sigma: Prior | None = None,
        sigma: Prior | None = None,
        dispersion: Prior | None = None,
        **specific: Prior | None,
    ) -> None:
        general = {"beta": beta, "sd": sd, "cor": cor, "Sigma": Sigma, "sigma": sigma}
        given = {**general, "dispersion": dispersion, **specific}
        self._priors = {key: prior for key, prior in given.items() if prior is not None}
        for key, prior in self._priors.items():
            if not isinstance(prior, Prior):
                raise PriorError(
                    f"The prior of {key!r} must be an object such as Normal(0, 10) or HalfT(3, 1) "
                    f"from bayou.priors, not {prior!r}."
                )

    @classmethod
    def of(cls, priors: Priors | Mapping[str, Prior] | None) -> Priors:
        """Return a collection from a collection, a dict with the same keys, or None (no keys)."""
        if priors is None:
            return cls()
        if isinstance(priors, Priors):
            return priors
        if not isinstance(priors, Mapping) or not all(isinstance(key, str) for key in priors):
            raise PriorError(f"priors must be bayou.Priors(...) or a dict of names and priors, not {priors!r}.")
        made = cls(**priors)
        made._priors = {key: made._priors[key] for key in priors if key in made._priors}
        return made

    @classmethod
    def unit_information(cls, model: Model) -> Priors:
        """Return weak priors centred on the per-group least-squares estimates.

        The response of each group (y for a Gaussian one, log(y + 1/n_j) for counts, the offset taken
        off) is regressed on the group's own columns. mu0 is the mean of the estimates, Lambda0 = S0
        their covariance (divisor J − 1); beta ~ N(mu0, Lambda0), Sigma ~ InverseWishart(p + 2, S0).
        For a Gaussian response 1 / sigma² ~ Gamma(nu0 / 2, nu0 sigma0² / 2) with nu0 = 1 and sigma0²
        the mean within-group residual variance. Groups whose rows do not determine their own
        estimates are left out of the averages.

        Raises
        ------
        PriorError
            The family is neither Gaussian nor of counts, no grouping factor has columns that span
            the fixed ones, or too few groups determine their own estimates.

        References
        ----------
        Hoff (2009), A First Course in Bayesian Statistical Methods, section 11.
        """
        design = model.design
        response = _response(design)
        grouping, mapping = _spanning_grouping(design)
        estimates, variances = _least_squares(design, grouping, response)
        p = grouping.Z.shape[1]
        if len(estimates) < p + 1:
            raise PriorError(
                f"Unit-information priors need at least {p + 1} levels of {grouping.name!r} that "
                f"determine their own {p} coefficients; only {len(estimates)} do. Give Priors(...) instead."
            )
        mean = estimates.mean(axis=0)
        covariance = np.atleast_2d(np.cov(estimates, rowvar=False))
        back = np.linalg.inv(mapping)
        priors: dict[str, Prior] = {
            "beta": Normal(back @ mean, cov=back @ covariance @ back.T),
            f"Sigma_{grouping.name}": InverseWishart(p + 2, covariance),
        }
        if design.family.name == "gaussian" and design.standard_errors is None:
            if not len(variances):
                raise PriorError(
                    f"Unit-information priors need a level of {grouping.name!r} with more than {p} rows "
                    "to estimate the residual variance. Give Priors(...) instead."
                )
            priors["sigma"] = Gamma(0.5, 0.5 * float(variances.mean()))
        return cls(**priors)

    def __getitem__(self, key: str) -> Prior:
        """Return the prior of one key."""
        return self._priors[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys, in the order given."""
        return iter(self._priors)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._priors)

    def __str__(self) -> str:
        """Return one line per prior, with its numbers."""
        return "\n".join(f"{key} ~ {prior}" for key, prior in self.items()) or "the default priors"

    def __repr__(self) -> str:
        """Return the call that makes this collection, numbers shortened."""
        return "Priors(" + ", ".join(f"{key}={prior}" for key, prior in self.items()) + ")"


def _response(design: Design) -> Array:
    name, link = design.family.name, design.family.link.name
    if name == "gaussian" and link == "identity":
        return np.asarray(design.y - design.offset)
    if name in ("poisson", "negative_binomial"):
        return np.asarray(design.y)
    raise PriorError(
        "Unit-information priors are defined for Gaussian responses with identity link and for counts, "
        f"not for {name} with link {link}. Give Priors(...) instead."
    )


def _spanning_grouping(design: Design) -> tuple[Grouping, Array]:
    """Return the first grouping factor with X = Z M, M invertible, and that M."""
    if not design.groupings:
        raise PriorError("Unit-information priors need a grouping factor, such as (x | g) in the formula.")
    X = design.X
    for grouping in design.groupings:
        if grouping.Z.shape[1] != X.shape[1] or len(grouping.blocks) != 1:
            continue
        scale_Z = np.maximum(np.linalg.norm(grouping.Z, axis=0), 1e-300)
        scale_X = np.maximum(np.linalg.norm(X, axis=0), 1e-300)
        M, _, rank, _ = np.linalg.lstsq(grouping.Z / scale_Z, X / scale_X, rcond=None)
        gap = np.abs(grouping.Z / scale_Z @ M - X / scale_X).max(initial=0.0)
        if rank == X.shape[1] and gap < 1e-8 and np.linalg.matrix_rank(M) == len(M):
            return grouping, np.asarray(M * scale_X / scale_Z[:, None])
    first = design.groupings[0]
    raise PriorError(
        f"Unit-information priors need the fixed effects ({', '.join(design.coefficients)}) and the group "
        f"effects ({', '.join(first.coefficients)} of {first.name!r}) to span the same columns, in one "
        "correlated bar. Write the same terms in both, as in y ~ x + (x | g), or give Priors(...)."
    )


def _least_squares(design: Design, grouping: Grouping, response: Array) -> tuple[Array, Array]:
    """Return the estimates (J', p) of the levels that determine them, and their residual variances."""
    design.require_rows("A least-squares fit of each level for unit-information priors")
    order = np.argsort(grouping.codes, kind="stable")
    bounds = np.searchsorted(grouping.codes[order], np.arange(len(grouping.levels) + 1))
    counts = design.family.name != "gaussian"
    root = np.ones(len(response)) if counts else np.sqrt(design.weights)
    p = grouping.Z.shape[1]
    estimates, variances = [], []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        rows = order[start:stop]
        y = response[rows]
        if counts:
            y = np.log(y + 1.0 / max(len(rows), 1)) - design.offset[rows]
        w = root[rows]
        solution, _, rank, _ = np.linalg.lstsq(grouping.Z[rows] * w[:, None], y * w, rcond=None)
        if rank < p:
            continue
        estimates.append(solution)
        spare = int(np.count_nonzero(w)) - p
        if spare > 0:
            residual = (y - grouping.Z[rows] @ solution) * w
            variances.append(float(residual @ residual) / spare)
    return np.array(estimates).reshape(-1, p), np.array(variances)

"""Which coordinates each block of coefficients has, and the map of positions around the mode.

"auto" takes coordinates that are about standard normal given theta and the data (`bayou.joint.conditional`), with roots
of posterior covariances for theta, the fixed effects and the smaller blocks. "laplace" scales deviations from the mode
by the curvature there, whatever theta is. The information of the data about a whitened coordinate, in units of its
prior's, is shown, and decides where there is a choice between whitened and centred: sd² Σ w z² of a group's intercept
(Papaspiliopoulos, Roberts & Sköld 2007, Statistical Science 22).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from bayou._types import Array
from bayou.conditional.field.component import Component
from bayou.errors import DataError
from bayou.joint.adapted import Adapted
from bayou.joint.codes import AUTOREGRESSION, CENTRED, CONDITIONAL, WHITENED
from bayou.joint.evaluate import BOUNDED, POSITIVE
from bayou.joint.hyper import BETWEEN_LOG
from bayou.joint.maps import (
    Affine,
    Sparse,
    basis_of,
    coordinates_of,
    design_of,
    factored,
    plain,
    prior_precision,
    root_of,
)
from bayou.joint.peak import Peak, find_peak
from bayou.joint.priors import raw_of_fixed, raw_of_hyper
from bayou.joint.structures import Known, Shape, unknown
from bayou.joint.tables import Fixed, Hyper

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["CHOICES", "Chooser", "Chosen"]

CHOICES = ("auto", "whitened", "centered", "laplace")
MUCH = 10.0  # times the prior's information, from which coefficients are their own coordinates
SURE = 0.5  # sd of the logarithm of an sd, at most, for these
FARTHEST = 4.0  # from zero of a bounded quantity's position at the mode
WIDEST = 2.0  # root of such a position, at most
WORDS = {CENTRED: "centred", WHITENED: "whitened", CONDITIONAL: "conditional on its hyperparameters and the data"}


@dataclass(frozen=True, eq=False)
class Chosen:
    """The coordinates of a density.

    Attributes
    ----------
    affine
        The map of positions.
    known
        The form of each effect, and what conditional ones need.
    shapes
        Of the effects, bases turned as suits the data.
    lines
        Sentences.
    spread
        Whether positions are about standard normal: where starts may come from.
    """

    affine: Affine
    known: Known
    shapes: tuple[Shape, ...]
    lines: tuple[str, ...]
    spread: bool


class Chooser:
    """What coordinates are chosen from.

    Parameters
    ----------
    model, parts, shapes, hyper, fixed
        The model and what was made of it.
    """

    def __init__(
        self, model: Model, parts: Sequence[Component], shapes: Sequence[Shape], hyper: Hyper, fixed: Fixed
    ) -> None:
        self.model, self.parts, self.shapes = model, parts, tuple(shapes)
        self.hyper, self.fixed = hyper, fixed

    @cached_property
    def peak(self) -> Peak | None:
        """The mode of the hyperparameters and of the coefficients given them."""
        return find_peak(self.model)

    def choose(self, coordinates: str) -> Chosen:
        """Return the coordinates of the name.

        Raises
        ------
        DataError
            There is no such name, or no mode to map from.
        """
        if coordinates not in CHOICES:
            raise DataError(f"coordinates={coordinates!r}: give one of {', '.join(map(repr, CHOICES))}.")
        if coordinates in ("whitened", "centered"):
            form = WHITENED if coordinates == "whitened" else CENTRED
            return self._unmapped(form, f"{WORDS[form]}, as asked")
        if self.peak is None:
            if coordinates == "laplace":
                raise DataError(
                    "coordinates='laplace': no mode of the hyperparameters was found to map from. Use 'whitened'."
                )
            return self._unmapped(WHITENED, "whitened, since no mode of the hyperparameters was found")
        forms, says = self._by_information(self.peak)
        if coordinates == "laplace":
            centre, precision = self.around(self.peak, forms)
            made = factored(precision, centre, *self.theta_map(self.peak))
            if made is None:
                raise DataError("coordinates='laplace': the curvature at the mode is not definite. Use 'whitened'.")
            lines = [*self._lines(forms, says), "all of them: deviations from the mode, scaled by the curvature there"]
            return Chosen(made, unknown(forms), self.shapes, tuple(lines), True)
        forms = tuple(f if s.kind == AUTOREGRESSION else CONDITIONAL for f, s in zip(forms, self.shapes, strict=True))
        return self._conditional(self.peak, forms, self._lines(forms, says))

    def _lines(self, forms: Sequence[int], says: Sequence[str]) -> list[str]:
        names = [self._name(part) for part in self.parts]
        return [f"{name}: {WORDS[form]}; {say}" for name, form, say in zip(names, forms, says, strict=True)]

    def _name(self, part: Component) -> str:
        word = "f_" if part.grouping < 0 else "b_"
        if part.grouping < 0 or len(part.columns) == self.model.design.groupings[part.grouping].Z.shape[1]:
            return word + part.name
        columns = self.model.design.groupings[part.grouping].coefficients
        return f"{word}{part.name}[{','.join(columns[k] for k in part.columns)}]"

    # ---- maps ------------------------------------------------------------------------------

    def units(self) -> Array:
        """Return a scale (P,) for each working fixed effect: about what moves eta by the spread of the response."""
        design, X = self.model.design, self.model.working.X
        identity = self.model.family.link.name == "identity"
        scale = (design.moments.sd or 1.0) if identity else 1.0
        size = self.model.sizes(X)
        unit = scale / np.where(size > 0.0, size, 1.0)
        return np.asarray(np.where(self.fixed.support == 0, unit, 1.0))

    def _counts(self) -> list[int]:
        pairs = zip(self.parts, self.shapes, strict=True)
        return [(shape.ranks + shape.free) * part.effect.replicates for part, shape in pairs]

    def _unmapped(self, form: int, why: str) -> Chosen:
        P = len(self.fixed.mean)
        beta = np.where(self.fixed.support == 0, self.fixed.mean, 0.0)
        centre = np.concatenate([beta, np.zeros(sum(self._counts()))])
        affine = plain(centre, np.arange(P), np.diag(self.units()))
        lines = tuple(f"{self._name(part)}: {why}" for part in self.parts)
        return Chosen(affine, unknown([form] * len(self.parts)), self.shapes, lines, False)

    def _conditional(self, peak: Peak, forms: Sequence[int], lines: list[str]) -> Chosen:
        fixed, rate = self._fixed_at(peak)
        P = len(fixed)
        adapted = Adapted(self.model, self.parts, self.shapes, forms, peak, self._scales(peak))
        lead, root = adapted.leading(rate)
        centre = np.concatenate([fixed, adapted.centre()])
        affine = plain(centre, lead, root, *self.theta_map(peak))
        if len(lead):
            more = f" and {len(lead) - P} coefficients" if len(lead) > P else ""
            lines.append(f"fixed effects{more}: scaled by their covariance at the mode")
        return Chosen(affine, adapted.known, adapted.shapes, tuple(lines), True)

    def theta_map(self, peak: Peak) -> tuple[Array, Array]:
        """Return the position (d,) of the mode of theta, and a root of the covariance there."""
        if not len(peak.theta):
            return np.zeros(0), np.zeros((0, 0))
        h = 1e-4
        ends = raw_of_hyper(self.hyper, np.stack([peak.theta - h, peak.theta, peak.theta + h]))
        bounded = self.hyper.kind >= BETWEEN_LOG
        raw = np.where(bounded, np.clip(ends[1], -FARTHEST, FARTHEST), ends[1])
        root = np.linalg.cholesky(peak.covariance) * ((ends[2] - ends[0]) / (2.0 * h))[:, None]
        size = np.sqrt(np.sum(np.square(root), axis=1))
        root = root * np.where(bounded, np.clip(size, 0.1, WIDEST) / np.maximum(size, 1e-300), 1.0)[:, None]
        return np.asarray(raw), np.asarray(root)

    def _fixed_at(self, peak: Peak) -> tuple[Array, Array]:
        """Return coordinates (P,) of the fixed effects at the mode, and d beta / d coordinate."""
        fixed, beta = self.fixed, peak.beta.copy()
        width = fixed.high - fixed.low
        for k in np.flatnonzero(fixed.support):
            if fixed.support[k] == POSITIVE:
                beta[k] = max(beta[k], 0.1 * self.units()[k])
            else:
                beta[k] = np.clip(beta[k], fixed.low[k] + 0.02 * width[k], fixed.high[k] - 0.02 * width[k])
        rate = np.ones(len(beta))
        rate[fixed.support == POSITIVE] = beta[fixed.support == POSITIVE]
        share = (beta - fixed.low) / width
        at = fixed.support == BOUNDED
        rate[at] = (width * share * (1.0 - share))[at]
        return raw_of_fixed(fixed, beta[None])[0], rate

    # ---- information -----------------------------------------------------------------------

    def _scales(self, peak: Peak) -> list[Array]:
        """Return the sds of the coordinates of each structure with a basis, at the mode."""
        out = []
        for part, shape in zip(self.parts, self.shapes, strict=True):
            theta = peak.theta[part.hyper]
            scale = np.full(shape.ranks, np.exp(theta[0]))
            if shape.power != 0.0:
                share = 1.0 / (1.0 + np.exp(-theta[1]))
                scale = scale * ((1.0 - share) + share * shape.weights) ** shape.power
            out.append(scale)
        return out

    def _by_information(self, peak: Peak) -> tuple[tuple[int, ...], list[str]]:
        """Decide between whitened and centred, block by block, and say what the data weigh."""
        roots = [
            root_of(part.effect, shape, peak.theta[part.hyper], scale)
            for part, shape, scale in zip(self.parts, self.shapes, self._scales(peak), strict=True)
        ]
        A = design_of(self.model, self.parts, self.shapes, roots)
        ratio = np.asarray(A.power(2).T @ peak.weight)
        forms, says, at = [], [], 0
        for part, shape, count in zip(self.parts, self.shapes, self._counts(), strict=True):
            own = ratio[at : at + count].reshape(part.effect.replicates, -1)[:, : shape.ranks]
            at += count
            sds = [k for k, h in enumerate(part.effect.hyperparameters) if h.role == "sd"]
            unsure = max(float(np.sqrt(peak.covariance[part.first + k, part.first + k])) for k in sds)
            forms.append(CENTRED if float(np.quantile(own, 0.25)) > MUCH and unsure < SURE else WHITENED)
            says.append(f"the data weigh {float(np.median(own)):.2g} times the prior (median of its coordinates)")
        return tuple(forms), says

    def around(self, peak: Peak, forms: Sequence[int]) -> tuple[Array, Sparse]:
        """Return the mode (P + M,) of fixed effects and coordinates of coefficients, and their precision there."""
        roots, priors, centres = [], [], []
        at = 0
        for part, shape, scale, form in zip(self.parts, self.shapes, self._scales(peak), forms, strict=True):
            theta, R, white = peak.theta[part.hyper], part.effect.replicates, form == WHITENED
            root = root_of(part.effect, shape, theta, scale)
            u = peak.coefficients[at : at + part.size].reshape(R, part.effect.size)[:, : shape.size]
            at += part.size
            centres.append(coordinates_of(shape, root, u, white).ravel())
            roots.append(root if white else basis_of(shape))
            own = prior_precision(part.effect, shape, theta, scale, white)
            priors.append(scipy.sparse.kron(scipy.sparse.eye_array(R), own))
        fixed, rate = self._fixed_at(peak)
        X = Sparse(self.model.working.X * rate)
        A = Sparse(scipy.sparse.hstack([X, design_of(self.model, self.parts, self.shapes, roots)], format="csr"))
        other = np.where(self.fixed.support == 0, self.model.working.curvature, 1.0)
        of_beta = self.fixed.precision * np.outer(rate, rate) + np.diag(other)
        prior = scipy.sparse.block_diag([of_beta, *priors], format="csr")
        return np.concatenate([fixed, *centres]), Sparse(A.T @ (scipy.sparse.diags_array(peak.weight) @ A) + prior)

    # ---- starts ----------------------------------------------------------------------------

    def start(self, rng: np.random.Generator, chosen: Chosen, wide: float) -> Array:
        """Return a position (size,): around the mode, ``wide`` times as far from it as the posterior."""
        d, affine, peak = len(self.hyper.kind), chosen.affine, self.peak
        if chosen.spread:
            return wide * rng.standard_normal(d + len(affine.map.centre))
        if peak is None:
            return self.start_without_mode(rng, chosen, wide)
        centre, precision = self.around(peak, chosen.known.forms)
        sd = 1.0 / np.sqrt(np.maximum(precision.diagonal(), 1e-300))
        raw, root = self.theta_map(peak)
        raw = raw + wide * (root @ rng.standard_normal(d))
        v = centre + wide * sd * rng.standard_normal(len(centre))
        return affine.inverse(np.concatenate([raw, v])[None], d)[0]

    def start_without_mode(self, rng: np.random.Generator, chosen: Chosen, wide: float) -> Array:
        """Return a position about where hyperparameters may be, with small coefficients."""
        scale = 1.0
        if self.model.family.link.name == "identity":
            scale = self.model.design.moments.sd or 1.0
        raw = [np.zeros(0)]
        for part in self.parts:
            raw.append(np.array([np.log(0.5 * scale) if h.role == "sd" else 0.0 for h in part.effect.hyperparameters]))
        levels = len(self.hyper.kind) - sum(len(one) for one in raw)
        first = np.log(0.7 * scale) if self.model.family.dispersion == "sigma" else 1.0
        theta = np.concatenate([*raw, np.full(levels, first)])
        inside = raw_of_hyper(self.hyper, theta[None])[0]
        inside = np.where(self.hyper.kind >= BETWEEN_LOG, np.clip(inside, -FARTHEST, FARTHEST), inside)
        count = sum(self._counts())
        sd = np.concatenate([0.1 * self.units(), np.full(count, 0.5)])
        centre = np.concatenate([np.where(self.fixed.support == 0, self.fixed.mean, 0.0), np.zeros(count)])
        q = np.concatenate([inside, centre])
        q = q + wide * np.concatenate([np.full(len(inside), 0.5), sd]) * rng.standard_normal(len(q))
        return chosen.affine.inverse(q[None], len(inside))[0]

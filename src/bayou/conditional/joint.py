"""The Gaussian of all coefficients x = (b, beta) given the hyperparameters and the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.rows import colour
from bayou.jit import kernel
from bayou.linalg.covariances import invert, new_inverse, variances
from bayou.linalg.schur import Arrow, Border, Factor, draw_scaled
from bayou.linalg.whitened import modes
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model


@kernel(entry=True)
def _draws(
    arrow: Arrow, border: Border, factor: Factor, T: Array, known: Array, u: Array, rest: Array,
    own: Array, others: Array, scale: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Draw the coefficients given the fixed effects of each draw, known (S, P): own (S, J, p), others (S, R)."""
    P = known.shape[1]
    R = rest.shape[0]
    for s in range(own.shape[0]):
        for k in range(P):
            rest[R - P + k] = known[s, k]
        draw_scaled(arrow, factor, rest, u, P, scale, rng)
        colour(border, T, u, rest, own[s], others[s])


class Conditional:
    """The Gaussian N(x; mode, precision⁻¹) of the coefficients given hyperparameters and data.

    Exact for a Gaussian response, else the Laplace approximation at the mode.

    Parameters
    ----------
    model
        The model.
    order
        Grouping factors by position in the system.
    arrow, border, factor
        The whitened system, factorised with all R columns of the rest (`factorise_whitened`).
    T
        Factors (K, p, p) of the covariances, relative to ``scale``.
    scale
        What all standard deviations are to be multiplied with: the residual sd of a profiled Gaussian model.
    shift
        What was taken off the response.
    log_marginal
        log p(y | theta) or log p(y | beta, theta), with every constant.
    beta
        The fixed effects (P,) in working coordinates where they are given and not part of x.
    parts
        The system, border and factor as kernels take them, if they are packed already.
    """

    def __init__(
        self,
        model: Model,
        order: tuple[int, ...],
        arrow: Arrow,
        border: Border,
        factor: Factor,
        T: Array,
        scale: float,
        shift: float,
        log_marginal: float,
        beta: Array | None = None,
        parts: tuple[Any, ...] | None = None,
    ) -> None:
        self.model, self.order = model, order
        self.arrow, self.border, self.factor = arrow, border, factor
        self.T, self.scale, self.shift = T.copy(), scale, shift
        self.log_marginal = log_marginal
        self.given = beta
        self._packed = parts or (packed(arrow), packed(border), packed(factor))
        R, P = len(arrow.d), len(border.linear)
        self.columns = R if beta is None else R - P
        u, rest = np.zeros_like(arrow.a), np.zeros(R)
        self._modes(u, rest)
        self._b, self._rest = np.zeros_like(u), np.zeros(R)
        colour(self._packed[1], self.T, u, rest, self._b, self._rest)
        self.working = self._rest[R - P :].copy() if beta is None else np.asarray(beta, dtype=np.float64)
        self._spread: tuple[Array, Array] | None = None

    def _modes(self, u: Array, rest: Array) -> None:
        """Fill u (J, p) and rest (R,) with the modes in whitened coordinates."""
        modes(self._packed[0], self._packed[2], self.columns, u, rest)

    # ---- fixed effects ---------------------------------------------------------------------

    @property
    def beta(self) -> Array:
        """The mode of the fixed effects as printed, (P,)."""
        return self.printed(self.working)

    def printed(self, working: Array) -> Array:
        """Bring fixed effects (…, P) from working coordinates to those printed."""
        w = self.model.working
        moved = np.array(working, dtype=np.float64)
        if w.intercept is not None:
            moved[..., w.intercept] += self.shift
        return np.asarray(moved @ w.to_printed.T)

    @property
    def working_covariance(self) -> Array:
        """Covariance (P, P) of the working fixed effects, group coefficients integrated out."""
        P = len(self.border.linear)
        if self.given is not None or not P:
            return np.zeros((P, P))
        return np.asarray(self.scale**2 * self._fixed_covariance())

    def _fixed_covariance(self) -> Array:
        """Return the block (P, P) of the fixed effects in the inverse of the precision."""
        P, R = len(self.border.linear), len(self.arrow.d)
        root = np.tril(self.factor.S[R - P : R, R - P : R])
        inverse = np.linalg.solve(root, np.eye(P))
        return np.asarray(inverse.T @ inverse)

    @property
    def beta_covariance(self) -> Array:
        """Covariance (P, P) of the fixed effects as printed."""
        back = self.model.working.to_printed
        return np.asarray(back @ self.working_covariance @ back.T)

    # ---- group coefficients ----------------------------------------------------------------

    def effects(self, factor: str) -> tuple[Array, Array]:
        """Return the modes (J, p) of a factor's coefficients and the roots of their prediction error variances."""
        if self._spread is None:
            own, rest = self._variances()
            self._spread = self.scale * np.sqrt(np.maximum(own, 0.0)), self.scale * np.sqrt(np.maximum(rest, 0.0))
        place = next(k for k, g in enumerate(self.order) if self.model.design.groupings[g].name == factor)
        return self._part(place, self._b, self._rest), self._part(place, *self._spread)

    def _variances(self) -> tuple[Array, Array]:
        """Return the diagonal of the inverse of the precision, in the coefficients' own coordinates."""
        inverse = new_inverse(self.arrow)
        invert(self.factor.S, self.columns, inverse.V)
        own, rest = np.zeros_like(self._b), np.zeros_like(self._rest)
        arrow, border, pivots = self._packed
        variances(arrow, border, pivots, self.columns, packed(inverse), self.T, own, rest)
        return own, rest

    def _part(self, place: int, own: Array, rest: Array) -> Array:
        """Take one factor's coefficients (…, J, p) out of those of the eliminated factor and the rest."""
        if place == 0:
            return own
        start, q = int(self.border.start[place - 1]), int(self.border.size[place - 1])
        levels = int(self.border.levels[place - 1])
        return rest[..., start : start + levels * q].reshape(*rest.shape[:-1], levels, q)

    def draw(self, rng: np.random.Generator, count: int, covariance: Array | None = None) -> dict[str, Array]:
        """Draw x.

        Parameters
        ----------
        rng
            The generator.
        count
            How many draws.
        covariance
            Of the working fixed effects (P, P), if another one than this Gaussian's own is wanted.

        Returns
        -------
        dict
            ``beta`` (count, P) as printed, and by name of each grouping factor its coefficients (count, J, p).
        """
        P = len(self.border.linear)
        if self.given is None and P:
            spread = self.working_covariance if covariance is None else covariance
            values, vectors = np.linalg.eigh(spread)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            working = self.working + rng.standard_normal((count, P)) @ root.T
        else:
            working = np.tile(self.working, (count, 1))
        known = working if self.given is None else np.zeros_like(working)
        own = np.empty((count, *self._b.shape))
        others = np.empty((count, len(self._rest)))
        self._drawn(known, own, others, rng)
        names = [self.model.design.groupings[g].name for g in self.order]
        return {"beta": self.printed(working), **{name: self._part(k, own, others) for k, name in enumerate(names)}}

    def _drawn(self, known: Array, own: Array, others: Array, rng: np.random.Generator) -> None:
        """Fill own (S, J, p) and others (S, R) with draws of the coefficients given fixed effects known (S, P)."""
        u, rest = np.zeros_like(self._b), np.zeros_like(self._rest)
        arrow, border, pivots = self._packed
        _draws(arrow, border, pivots, self.T, known, u, rest, own, others, self.scale, rng)

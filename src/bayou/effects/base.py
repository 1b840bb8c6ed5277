"""What every latent Gaussian effect is: a sparse precision on a fixed pattern, and the numbers that shape it.

One replicate of an effect is x ~ N(0, Q(theta)⁻) of ``size`` coefficients; its copies are independent and share
theta, which is in internal coordinates (log sd, logit or atanh of what lies between two numbers). Q is
Σ_k c_k(theta) M_k with matrices M_k on one pattern, so that a sampler or an optimiser that moves theta moves
a few numbers. Where Q is singular or x is constrained, densities are those on the space that is left:

    log p(x | theta) = −(rank/2) log 2π + ½ log|Z'QZ|* − ½ x'Qx,    Z a basis of {x: C x = 0},

with the product of the positive eigenvalues for |.|*. Source: Rue & Held (2005), Gaussian Markov Random Fields,
chapters 2 and 3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from bayou._types import Array, Integers
from bayou.effects.constrained import Anchored, complement, draw_constrained, hidden
from bayou.effects.extending import square_root
from bayou.effects.pattern import Matrix, filled, lower_values
from bayou.errors import DataError, Unsupported

FARTHEST = 250.0  # |t| beyond which an exponential of twice t is no number to work with


@dataclass(frozen=True)
class Hyperparameter:
    """One number of theta: what it is, and where it stands on the real line.

    Attributes
    ----------
    role
        "sd", "rho", "phi", or "cor" (a canonical partial correlation of a block of group coefficients).
    label
        The coefficient or coefficients that it belongs to, of a grouping factor; else "".
    scale
        "log", "logit" or "atanh": internal t = scale(value).
    initial
        Where a search may start, internal.

    Examples
    --------
    >>> phi = Hyperparameter("phi", "", "logit", 0.0)
    >>> phi.value(0.0), phi.slope(0.0)
    (0.5, 0.25)
    """

    role: str
    label: str
    scale: str
    initial: float

    def value(self, t: float) -> float:
        """Return the value at the internal coordinate t."""
        if self.scale == "log":
            return math.exp(min(max(t, -FARTHEST), FARTHEST))
        return math.tanh(t) if self.scale == "atanh" else expit(t)

    def internal(self, value: float) -> float:
        """Return the internal coordinate of a value.

        Raises
        ------
        DataError
            The value is not inside its range.
        """
        low = {"log": 0.0, "logit": 0.0, "atanh": -1.0}[self.scale]
        high = math.inf if self.scale == "log" else 1.0
        if not low < value < high:
            raise DataError(f"{self.role} = {value!r} is not between {low:g} and {high:g}.")
        if self.scale == "log":
            return math.log(value)
        return math.atanh(value) if self.scale == "atanh" else math.log(value) - math.log1p(-value)

    def slope(self, t: float) -> float:
        """Return d value / dt."""
        return math.exp(self.log_slope(t))

    def log_slope(self, t: float) -> float:
        """Return log (d value / dt), which is a number where the slope itself is none."""
        if self.scale == "log":
            return t
        twice = 2.0 if self.scale == "atanh" else 1.0
        a = twice * abs(t)
        return 2.0 * (twice - 1.0) * math.log(2.0) - a - 2.0 * math.log1p(math.exp(-a))


def expit(t: float) -> float:
    """Return 1 / (1 + exp(−t)); 1 − expit(t) is expit(−t) without cancellation."""
    if t >= 0.0:
        return 1.0 / (1.0 + math.exp(-t))
    e = math.exp(max(t, -700.0))
    return e / (1.0 + e)


def log_sd(scale: float = 1.0) -> Hyperparameter:
    """Return the standard deviation of an effect, starting at half the scale of the outcome."""
    return Hyperparameter("sd", "", "log", math.log(0.5 * scale))


class Effect(ABC):
    """One latent Gaussian effect.

    Attributes
    ----------
    kind
        "rw1", "rw2", "ar1", "seasonal", "s", "icar", "car", "leroux", "bym2", "known" or "exchangeable".
    size, replicates
        Coefficients of one copy, and independent copies.
    observed
        The first ``observed`` coefficients of a copy are the effect f itself.
    hyperparameters
        What theta (d,) holds.
    indptr, indices
        The lower triangle of Q with its whole diagonal, by columns, rows increasing.
    matrices
        (K, nnz): the values of Q are ``coefficients(theta) @ matrices``.
    constraints
        (k, size), orthonormal rows: constraints @ x = 0.
    anchors
        (k,): coefficients, one for each constraint. Positive numbers added to the diagonal of Q there remove
        the null directions of Q that the constraints remove.
    null
        The dimension of what neither Q nor the constraints determine (1 for rw2: its line).
    rank
        size − k − null, the rank of Z'QZ.
    """

    kind: str
    size: int
    replicates: int
    observed: int
    hyperparameters: tuple[Hyperparameter, ...]
    indptr: Integers
    indices: Integers
    matrices: Array
    constraints: Array
    anchors: Integers
    null: int

    @property
    def rank(self) -> int:
        """The rank of Z'QZ."""
        return self.size - len(self.constraints) - self.null

    @property
    def initial(self) -> Array:
        """Where a search may start, (d,)."""
        return np.array([h.initial for h in self.hyperparameters])

    @abstractmethod
    def coefficients(self, theta: Array) -> Array:
        """Return c (K,): Q = Σ c_k M_k."""

    @abstractmethod
    def coefficient_slopes(self, theta: Array) -> Array:
        """Return dc/dtheta (K, d)."""

    @abstractmethod
    def log_determinant(self, theta: Array) -> float:
        """Return the log pseudo-determinant of Z'QZ."""

    @abstractmethod
    def log_determinant_slopes(self, theta: Array) -> Array:
        """Return its gradient (d,)."""

    def null_basis(self, theta: Array) -> Array:
        """Return an orthonormal basis (size, r) of {x: Q x = 0}, constraints aside."""
        return np.zeros((self.size, 0))

    def values(self, theta: Array) -> Array:
        """Return the values (nnz,) of the lower triangle of Q."""
        return np.asarray(self.coefficients(theta) @ self.matrices)

    def dense(self, theta: Array) -> Array:
        """Return Q (size, size) as a dense matrix; for small sizes."""
        return filled(self.indptr, self.indices, self.values(theta))

    def free_basis(self, theta: Array) -> Array:
        """Return an orthonormal basis (size, null) of what neither Q nor the constraints determine."""
        return hidden(self.null_basis(theta), self.constraints)[0]

    def covariance(self, theta: Array) -> Array:
        """Return the covariance (size, size) on {C x = 0} less the free directions: Z (Z'QZ)⁺ Z'; for small sizes."""
        W = complement(np.vstack([self.constraints, self.free_basis(theta).T]), self.size)
        return np.asarray(W @ scipy.linalg.solve(W.T @ self.dense(theta) @ W, W.T, assume_a="pos"))

    def draw(self, theta: Array, rng: np.random.Generator, count: int) -> Array:
        """Draw from the prior, free directions left at zero.

        Returns
        -------
        numpy.ndarray
            (count, replicates, size).
        """
        null = self.null_basis(theta)
        anchored = Anchored(self.indptr, self.indices, self.values(theta), null)
        x = draw_constrained(anchored, null, self.constraints, rng, count * self.replicates)
        return x.reshape(count, self.replicates, self.size)

    def draw_each(self, thetas: Array, rng: np.random.Generator) -> Array:
        """Draw once for each row of thetas (S, d): (S, replicates, size)."""
        return np.concatenate([self.draw(theta, rng, 1) for theta in thetas])

    def extend_mean(self, theta: Array, coordinates: Array) -> tuple[Array, Array]:
        """Return W (q, observed) and V (q, q): at new coordinates f_new | f ~ N(W f, V).

        Raises
        ------
        Unsupported
            The structure has nothing between or beyond its nodes.
        """
        raise Unsupported(
            f"{self.kind} has no values at other places than its own: predict at its levels, or use a structure "
            "of time (rw1, rw2, ar1, seasonal) or a smooth s(x)."
        )

    def extend_each(self, thetas: Array, f: Array, coordinates: Array, z: Array) -> Array:
        """Draw f at new coordinates (q,) given f (S, observed), each row with its own theta (S, d): (S, q).

        Parameters
        ----------
        z
            Standard normal numbers, (S, q).

        Raises
        ------
        Unsupported
            As `extend_mean`.
        """
        out = np.empty_like(z)
        different, place = np.unique(thetas, axis=0, return_inverse=True)
        order = np.argsort(place.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(place.ravel(), minlength=len(different)))[:-1]
        for theta, mine in zip(different, np.split(order, ends), strict=True):
            W, V = self.extend_mean(theta, coordinates)
            out[mine] = f[mine] @ W.T + z[mine] @ square_root(V).T
        return out

    def extend(self, theta: Array, f: Array, coordinates: Array, rng: np.random.Generator) -> Array:
        """Draw f at new coordinates (q,) given f (S, observed) at the nodes, at one theta: (S, q).

        Raises
        ------
        Unsupported
            As `extend_mean`.
        """
        W, V = self.extend_mean(theta, coordinates)
        return np.asarray(f @ W.T + rng.standard_normal((len(f), len(V))) @ square_root(V).T)

    def _check(self) -> None:
        """Refuse an effect of which nothing is left."""
        if self.rank < 1:
            raise DataError(
                f"{self.kind} with {self.size} coefficients, {len(self.constraints)} constraints and {self.null} free "
                "directions leaves nothing to estimate. Bring more levels, or leave the effect out."
            )


class OneScale(Effect):
    """An effect with Q = R / sd²: a structure R and one standard deviation.

    Parameters
    ----------
    kind, replicates
        As in `Effect`.
    R
        (size, size) symmetric sparse, positive semi-definite.
    null
        (size, r) orthonormal: R null = 0.
    constraints, anchors
        As in `Effect`.
    inverse
        A generalised inverse of R; see `bayou.effects.constrained`.
    scale
        Of the outcome, for the start.
    """

    def __init__(
        self,
        kind: str,
        R: Matrix,
        null: Array,
        constraints: Array,
        anchors: Integers,
        inverse: Anchored | None = None,
        replicates: int = 1,
        scale: float = 1.0,
    ) -> None:
        self.kind, self.replicates = kind, replicates
        self.size = self.observed = R.shape[0]
        self.hyperparameters = (log_sd(scale),)
        self.indptr, self.indices, self.matrices = lower_values([R])
        self.constraints, self.anchors = constraints, anchors
        free, log_constraint = hidden(null, constraints)
        self.null = free.shape[1]
        self._null = null
        self._check()
        if inverse is None:
            inverse = Anchored(self.indptr, self.indices, self.matrices[0], null)
        self.inverse = inverse
        self._root = 1.0  # draws of R in units of the scaled structure
        self._constant = inverse.log_determinant + log_constraint(inverse)

    def coefficients(self, theta: Array) -> Array:
        """Return 1 / sd²."""
        return np.exp(-2.0 * theta)

    def coefficient_slopes(self, theta: Array) -> Array:
        """Return −2 / sd², (1, 1)."""
        return -2.0 * np.exp(-2.0 * theta)[:, None]

    def log_determinant(self, theta: Array) -> float:
        """Return log|Z'RZ|* − 2 rank log sd."""
        return float(self._constant - 2.0 * self.rank * theta[0])

    def log_determinant_slopes(self, theta: Array) -> Array:
        """Return −2 rank, (1,)."""
        return np.array([-2.0 * self.rank])

    def null_basis(self, theta: Array) -> Array:
        """Return the null space of R."""
        return self._null

    def draw(self, theta: Array, rng: np.random.Generator, count: int) -> Array:
        """Draw from the prior; see `Effect.draw`."""
        x = draw_constrained(self.inverse, self._null, self.constraints, rng, count * self.replicates)
        return self._root * np.exp(theta[0]) * x.reshape(count, self.replicates, self.size)

    def draw_each(self, thetas: Array, rng: np.random.Generator) -> Array:
        """Draw once for each row of thetas."""
        return np.exp(thetas[:, 0])[:, None, None] * self.draw(np.zeros(1), rng, len(thetas))

    def rescale(self, factor: float) -> None:
        """Multiply R by a number, so that sd has another unit."""
        self.matrices = self.matrices * factor
        self._constant += self.rank * float(np.log(factor))
        self._root = self._root / np.sqrt(factor)

"""A family of the user's own: a log density as a function that Numba compiles, for the engine that needs no more."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from bayou import links
from bayou._types import Array
from bayou.errors import DataError, Unsupported
from bayou.families.base import CORRECT, Family, Refuse, Rows
from bayou.families.table import FAMILIES
from bayou.links import Link

if TYPE_CHECKING:
    from bayou.families.compiled import Compiled

__all__ = ["Custom"]

DISPERSIONS = ("sigma", "phi", "shape")
NAMES = (*DISPERSIONS, "beta", "chain", "draw")


@dataclass(frozen=True, init=False)
class Custom(Family):
    """A distribution of the response that bayou does not have, by its log density.

    The functions are compiled once per session and called for every row of every gradient, so they take numbers, not
    arrays, and use what Numba knows: arithmetic, `np.exp`, `np.log`, `bayou.families.log_gamma`, ….

    Parameters
    ----------
    log_density
        Of ``(y, eta)``, or of ``(y, eta, dispersion)``: the log density of one row with every constant, eta being its
        linear predictor.
    gradient
        Of the same numbers: its derivative by eta, or with a dispersion the pair of derivatives by eta and by the
        dispersion. None: by complex step, f'(x) = Im f(x + ih) / h with h = 1e-20, exact to the last digits for
        functions that are analytic as they are written (no abs, no comparison of eta, `log_gamma` in place of lgamma).
        Either way it is held to finite differences before any sampling.
    dispersion
        None, or what it is called and behaves like: "sigma" has the default prior of a residual sd, "phi" and "shape"
        that of the families that have them.
    link
        From the mean of y to eta: "identity", "log", "logit", …: it gives the scale of the default priors, and means.
    name
        For print-outs.
    sample
        Of ``(rng, eta, dispersion)``, arrays: draws outcomes, for predictions of outcomes and predictive checks.

    Raises
    ------
    Unsupported
        For a function that cannot be compiled or has other arguments.

    Notes
    -----
    ``engine="nuts"`` alone takes such a family; prior weights multiply the log density. A file holds no code: keep the
    draws of such a fit rather than the fit.

    References
    ----------
    Squire & Trapp, Using complex variables to estimate derivatives of real functions, SIAM Review 40 (1998).

    Examples
    --------
    Student's t with four degrees of freedom, which a row far out cannot pull along:

    >>> import numpy as np, bayou
    >>> def log_density(y, eta, sigma):
    ...     return -np.log(sigma) - 2.5 * np.log1p(((y - eta) / sigma) ** 2 / 4) - 0.9808292530117262
    >>> robust = bayou.families.Custom(log_density, dispersion="sigma", name="student")
    >>> data = {"x": np.arange(12.0), "y": np.array([0.1, 0.9, 2.2, 2.9, 4.1, 4.9, 6.0, 7.1, 7.9, 9.1, 40.0, 10.9])}
    >>> fit = bayou.fit("y ~ x", data, family=robust, engine="nuts", seed=1)
    >>> bool(abs(fit.fixed_effects.loc["x", "mean"] - 1) < 0.1)
    True
    """

    name = "custom"
    codes = {}
    own = True
    function: Callable[..., Any]
    slopes: Callable[..., Any] | None
    sampler: Callable[..., Any] | None

    def __init__(
        self,
        log_density: Callable[..., Any],
        *,
        gradient: Callable[..., Any] | None = None,
        dispersion: str | None = None,
        link: str | Link = "identity",
        name: str = "custom",
        sample: Callable[..., Any] | None = None,
    ) -> None:
        if dispersion is not None and dispersion not in DISPERSIONS:
            raise Unsupported(f"dispersion={dispersion!r}: a family of your own has {', '.join(DISPERSIONS)} or None.")
        if not isinstance(name, str) or not name.isidentifier() or name in (*FAMILIES, *NAMES):
            raise Unsupported(f"name={name!r}: give a name of your own, of letters and digits.")
        wanted = ("y", "eta") if dispersion is None else ("y", "eta", dispersion)
        for role, function in (("log_density", log_density), ("gradient", gradient)):
            if function is not None:
                _check_arguments(role, function, wanted)
        if sample is not None and not callable(sample):
            raise Unsupported("sample must be a function of (rng, eta, dispersion).")
        values = {"link": links.get(link), "name": name, "dispersion": dispersion, "function": log_density}
        for field, value in (values | {"slopes": gradient, "sampler": sample}).items():
            object.__setattr__(self, field, value)

    @property
    def code(self) -> int:
        """There is none: every engine that asks for it is one that cannot take the family.

        Raises
        ------
        Unsupported
            Always.
        """
        raise Unsupported(
            f"This engine works with families that bayou knows; {self.name!r} is your own. Use engine='nuts', which "
            "needs no more than its log density."
        )

    @property
    def compiled(self) -> Compiled:
        """The functions, compiled when first asked for.

        Raises
        ------
        Unsupported
            If that fails; the sentence says what to write instead.
        """
        from bayou.families.compiled import compiled

        return compiled(self.function, self.slopes, self.dispersion is not None)

    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Refuse: nobody said what it is."""
        self._unknown("its variance")

    def _log_density(self, rows: Rows) -> Array:
        value: Array = rows.weights * self.compiled.values(rows.y, rows.eta, rows.dispersion)
        return value

    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        step = 1e-5 * np.maximum(1.0, np.abs(rows.eta))
        before, here, after = (
            self.compiled.derivatives(rows.y, rows.eta + move * step, rows.dispersion)[0] for move in (-1.0, 0.0, 1.0)
        )
        return here, (before - after) / (2.0 * step)

    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array:
        if self.sampler is None:
            self._unknown("how to draw outcomes; give Custom a function sample=")
        return np.asarray(self.sampler(rng, rows.eta, rows.dispersion), dtype=np.float64)

    def _cdf(self, rows: Rows) -> Array:
        self._unknown("its distribution function")

    def _check(self, y: Array, trials: Array, refuse: Refuse) -> None:
        """Outcomes of density zero at every eta that is tried are impossible."""
        dispersion = None if self.dispersion is None else 1.0
        centre = float(np.median(y)) if self.link.name == "identity" else 0.0
        spread = max(float(np.std(y)), 1.0) if self.link.name == "identity" else 1.0
        tried = [self.log_density(y, centre + spread * eta, dispersion) for eta in (-2.0, 0.0, 2.0)]
        refuse(~np.isfinite(tried).any(axis=0), "has no finite log density at any eta that was tried", CORRECT)

    def _unknown(self, what: str) -> NoReturn:
        raise Unsupported(f"{self.name!r} is a family of your own, and bayou does not know {what}.")


def _check_arguments(role: str, function: Any, wanted: tuple[str, ...]) -> None:
    """Raise `Unsupported` if a function does not take these."""
    if not callable(function):
        raise Unsupported(f"{role} must be a function of ({', '.join(wanted)}); it is a {type(function).__name__}.")
    try:
        count = len(inspect.signature(getattr(function, "py_func", function)).parameters)
    except (TypeError, ValueError):
        count = len(wanted)
    if count != len(wanted):
        raise Unsupported(f"{role} must be a function of ({', '.join(wanted)}); it has {count} arguments.")


def outside_address(family: Family) -> int:
    """Return the address of a user's own family, compiled; 0 for all others."""
    return int(family.compiled.pointer.address) if isinstance(family, Custom) else 0


def verify(family: Custom, y: Array, eta: Array, dispersion: Array) -> None:
    """Hold the gradient of a family to central differences of fourth order; arrays broadcast.

    Raises
    ------
    DataError
        Naming where it is wrong, and by how much.
    """
    y, eta, dispersion = (np.ravel(a) for a in np.broadcast_arrays(y, eta, dispersion))
    found = family.compiled.derivatives(y, eta, dispersion)
    names = ("eta", family.dispersion)[: 1 if family.dispersion is None else 2]
    for k, name in enumerate(names):
        x = dispersion if k else eta
        h = 1e-3 * np.maximum(np.abs(x), 1e-3 if k else 1.0)

        def at(move: float, k: int = k, h: Array = h) -> Array:
            moved = (eta, dispersion + move * h) if k else (eta + move * h, dispersion)
            return family.compiled.values(y, *moved)

        with np.errstate(all="ignore"):
            reference = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h)
            scale = np.abs(reference) + np.abs(at(0.0)) / np.abs(x + h / h) + 1e-3
            wrong = np.isfinite(reference) & ~(np.abs(found[k] - reference) < 1e-4 * scale)
        if wrong.any():
            i = int(wrong.argmax())
            by = "the gradient that you gave" if family.slopes is not None else "its derivative by complex step"
            more = f", {family.dispersion} = {dispersion[i]:.4g}" if family.dispersion is not None else ""
            remedy = (
                "Correct gradient=."
                if family.slopes is not None
                else "Write log_density without abs, comparisons or rounding of its arguments, or give gradient=."
            )
            raise DataError(
                f"The log density of {family.name!r} changes by {reference[i]:.6g} per unit of {name} at "
                f"y = {y[i]:.4g}, eta = {eta[i]:.4g}{more}, and {by} says {found[k][i]:.6g}. {remedy}"
            )

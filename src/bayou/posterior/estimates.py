"""What an engine that maximises a likelihood finds, beside the draws that are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array
from bayou.errors import BayouError, Unsupported

__all__ = ["Errors", "Estimates", "pack_estimates", "unpack_estimates"]

SCALES = ("identity", "log", "atanh", "logit")
WORDS = (
    "method",
    "rows",
    "scale",
    "log_likelihood",
    "parameters",
    "observations",
    "criterion",
    "converged",
    "gradient",
    "iterations",
    "singular",
    "failures",
    "notes",
    "priors_used",
)
ARRAYS = ("estimate", "se", "beta_covariance", "theta", "theta_covariance")


class Errors(NamedTuple):
    """How far the estimates may be off.

    Attributes
    ----------
    se
        Standard errors (rows,), NaN where there is none, as for an sd that is zero.
    beta_covariance
        Covariance (P, P) of the fixed effects as printed.
    theta_covariance
        Covariance of the rows after beta, each on its scale; NaN where it is unknown.
    """

    se: Array
    beta_covariance: Array
    theta_covariance: Array


def errors_of(beta_covariance: Array, theta_covariance: Array, estimate: Array, scale: Sequence[str]) -> Errors:
    """Return the errors whose standard errors follow from the covariances by the delta method."""
    P = len(beta_covariance)
    with np.errstate(invalid="ignore"):
        root = np.sqrt(np.diag(theta_covariance))
        own = [np.sqrt(np.diag(beta_covariance))]
    x = estimate[P:]
    own_scale = np.array(scale[P:])
    slope = np.where(own_scale == "atanh", 1.0 - np.square(x), np.where(own_scale == "logit", x * (1.0 - x), x))
    return Errors(np.concatenate([*own, root * slope]), beta_covariance, theta_covariance)


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimates:
    """Point estimates with their uncertainty, and how they were found.

    Attributes
    ----------
    method
        As printed: ``"REML"``, ``"ML"``, ``"Laplace"``, ``"adaptive quadrature, 25 nodes"``, ``"joint (PQL)"``.
    rows
        Names of the summary rows, in the order of `Posterior.rows`: ``beta[…]``, ``sd_g[…]``, ``cor_g[…]``, then
        the dispersion.
    estimate
        Shape (rows,).
    scale
        On which scale each row is about normal: ``"identity"``, ``"log"`` (sds and dispersions), ``"atanh"``
        (correlations) or ``"logit"`` (what lies between 0 and 1).
    theta
        The rows after beta on their ``scale``.
    errors
        Their `Errors`, or a function that returns them when they are first needed: what costs a second Hessian is
        not computed for who only wants the estimates. Read them as ``se``, ``beta_covariance``, ``theta_covariance``.
    log_likelihood
        With all its constants, and without the priors if there were some; REML: the restricted one. NaN for a
        method that has none.
    parameters, observations
        Free parameters (fixed effects, covariances, dispersion) and rows, as AIC and BIC count them.
    criterion
        What was maximised: ``"log likelihood"``, ``"restricted log likelihood"``, ``"log posterior (with priors)"``.
    converged, gradient, iterations
        Whether the optimiser ended at a stationary point, the largest scaled gradient there, and its steps.
    singular
        Sentences: which effect or direction has no variance.
    failures
        Sentences: why not to use the result.
    notes
        Sentences that are worth knowing.
    priors_used
        Whether priors were part of the criterion.
    df
        Degrees of freedom (P,) of the t tests of the fixed effects, or a function that returns them when they are
        first needed; infinite or NaN where the test is normal, None where all are.
    effects
        A function of a factor's name (as in the formula) that returns the modes of its coefficients (J, p), BLUPs in
        a Gaussian model, and the square roots of their prediction error variances (J, p); of the name of a
        structured effect the same of f, (m,) or (R, m).

    Raises
    ------
    BayouError
        If shapes, rows and scales do not belong together.

    Examples
    --------
    >>> import numpy as np
    >>> found = Estimates(
    ...     method="ML", rows=("beta[Intercept]", "sigma"), estimate=np.array([1.0, 2.0]),
    ...     scale=("identity", "log"), theta=np.log([2.0]),
    ...     errors=Errors(np.array([0.5, 0.2]), np.array([[0.25]]), np.array([[0.01]])),
    ...     log_likelihood=-50.0, parameters=2, observations=20,
    ...     criterion="log likelihood", converged=True, gradient=1e-9, iterations=3)
    >>> lower, upper = found.interval(0.95)
    >>> print(lower.round(3), upper.round(3))
    [0.02  1.644] [1.98  2.433]
    >>> found.aic
    104.0
    """

    method: str
    rows: tuple[str, ...]
    estimate: Array
    scale: tuple[str, ...]
    theta: Array
    errors: Errors | Callable[[], Errors]
    log_likelihood: float
    parameters: int
    observations: int
    criterion: str
    converged: bool
    gradient: float
    iterations: int
    singular: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    priors_used: bool = False
    df: Array | Callable[[], Array] | None = None
    effects: Callable[[str], tuple[Array, Array]] | None = None
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        R, P = len(self.rows), self.fixed
        self._check({"estimate": (R,), "theta": (R - P,)}, self)
        if len(self.scale) != R or not set(self.scale) <= set(SCALES):
            raise BayouError(f"scale needs one of {SCALES} for each of {R} rows; it is {self.scale}.")
        if not callable(self.errors):
            self._known_errors()

    def _check(self, wanted: dict[str, tuple[int, ...]], of: object) -> None:
        found = {name: np.shape(getattr(of, name)) for name in wanted}
        if found != wanted:
            raise BayouError(
                f"With {len(self.rows)} rows, {self.fixed} of them beta, the shapes are {found}, not {wanted}."
            )

    def _known_errors(self) -> Errors:
        if "errors" not in self._kept:
            R, P = len(self.rows), self.fixed
            made = self.errors() if callable(self.errors) else self.errors
            self._check({"se": (R,), "beta_covariance": (P, P), "theta_covariance": (R - P, R - P)}, made)
            self._kept["errors"] = made
        errors: Errors = self._kept["errors"]
        return errors

    @property
    def se(self) -> Array:
        """Standard errors (rows,); NaN where there is none, as for an sd that is zero."""
        return self._known_errors().se

    @property
    def beta_covariance(self) -> Array:
        """Covariance (P, P) of the fixed effects as printed."""
        return self._known_errors().beta_covariance

    @property
    def theta_covariance(self) -> Array:
        """Covariance of the rows after beta, each on its scale; NaN where it is unknown."""
        return self._known_errors().theta_covariance

    # ---- fixed effects ---------------------------------------------------------------------

    @property
    def fixed(self) -> int:
        """Number of fixed effects P: the first rows."""
        return sum(name.startswith("beta[") for name in self.rows)

    @property
    def degrees(self) -> Array:
        """Degrees of freedom (P,) of the tests of the fixed effects; infinite where the test is normal."""
        if "df" not in self._kept:
            given = self.df() if callable(self.df) else self.df
            df = np.full(self.fixed, np.inf) if given is None else np.asarray(given, dtype=np.float64)
            if df.shape != (self.fixed,):
                raise BayouError(f"df has shape {df.shape}; it needs one number for each of {self.fixed} coefficients.")
            self._kept["df"] = np.where(np.isnan(df), np.inf, df)
        return np.asarray(self._kept["df"])

    def tests(self) -> tuple[Array, Array, Array]:
        """Test each fixed effect against zero: statistic, degrees of freedom and two-sided p, each of shape (P,).

        The statistic estimate / se has a t distribution where the degrees are finite, and is normal elsewhere. A
        coefficient without standard error has NaN.
        """
        from scipy.special import stdtr

        P = self.fixed
        statistic = self.estimate[:P] / np.where(self.se[:P] > 0.0, self.se[:P], np.nan)
        return statistic, self.degrees, np.asarray(2.0 * stdtr(self.degrees, -np.abs(statistic)))

    # ---- intervals -------------------------------------------------------------------------

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Wald intervals: estimate ± quantile x standard error on the scale of each row, then carried back.

        On the log scale the standard error is se / estimate, on the atanh scale se / (1 − estimate²), on the logit
        scale se / (estimate (1 − estimate)). The quantile is that of t for a fixed effect with finite degrees of
        freedom, else the normal one.

        Returns
        -------
        lower, upper
            Each of shape (rows,), NaN for a row without standard error.
        """
        from scipy.special import expit, logit, ndtri, stdtrit

        chance = 0.5 + level / 2.0
        reach = np.full(len(self.rows), ndtri(chance))
        finite = np.isfinite(self.degrees)
        reach[: self.fixed][finite] = stdtrit(self.degrees[finite], chance)
        known = np.isfinite(self.se) & (self.se > 0.0)
        reach = reach * np.where(known, self.se, np.nan)
        x, scale = self.estimate, np.array(self.scale)
        lower, upper = x - reach, x + reach
        k = np.flatnonzero((scale == "log") & (x > 0.0))
        with np.errstate(over="ignore"):  # an sd of which nothing is known: up to infinity
            lower[k], upper[k] = x[k] * np.exp(-reach[k] / x[k]), x[k] * np.exp(reach[k] / x[k])
        k = np.flatnonzero((scale == "atanh") & (np.abs(x) < 1.0))
        centre, step = np.arctanh(x[k]), reach[k] / (1.0 - np.square(x[k]))
        lower[k], upper[k] = np.tanh(centre - step), np.tanh(centre + step)
        k = np.flatnonzero((scale == "logit") & (x > 0.0) & (x < 1.0))
        centre, step = logit(x[k]), reach[k] / (x[k] * (1.0 - x[k]))
        lower[k], upper[k] = expit(centre - step), expit(centre + step)
        border = ((scale == "log") & ~(x > 0.0)) | ((scale == "atanh") & ~(np.abs(x) < 1.0))
        border |= (scale == "logit") & ~((x > 0.0) & (x < 1.0))
        lower[border] = upper[border] = np.nan
        return lower, upper

    # ---- groups ----------------------------------------------------------------------------

    def group_effects(self, factor: str) -> tuple[Array, Array]:
        """Return the modes (J, p) of a factor's coefficients and the roots of their prediction error variances.

        They are computed at first use and kept.

        Raises
        ------
        Unsupported
            If the engine does not give them.
        """
        if self.effects is None:
            raise Unsupported(f"{self.method} gives no prediction errors of group coefficients; look at their draws.")
        key = f"effects of {factor}"
        if key not in self._kept:
            mode, error = self.effects(factor)
            self._kept[key] = np.asarray(mode, dtype=np.float64), np.asarray(error, dtype=np.float64)
        mode, error = self._kept[key]
        return mode, error

    # ---- the likelihood --------------------------------------------------------------------

    def require_likelihood(self, what: str) -> float:
        """Return the log likelihood.

        Raises
        ------
        Unsupported
            If the method has none; ``what`` was asked for.
        """
        if np.isnan(self.log_likelihood):
            raise Unsupported(
                f"{what} needs a likelihood of the data, and {self.method} has none: it maximises a criterion in the "
                "coefficients of the groups too. Fit with engine='laplace', or 'quadrature' for one grouping factor."
            )
        return float(self.log_likelihood)

    @property
    def aic(self) -> float:
        """−2 log likelihood + 2 parameters."""
        return -2.0 * self.require_likelihood("AIC") + 2.0 * self.parameters

    @property
    def bic(self) -> float:
        """−2 log likelihood + log(rows) x parameters."""
        return -2.0 * self.require_likelihood("BIC") + float(np.log(self.observations)) * self.parameters


# ---- files ---------------------------------------------------------------------------------


def pack_estimates(found: Estimates, factors: Sequence[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return estimates as facts for JSON and flat arrays by name; what was deferred is computed."""
    arrays = {name: np.asarray(getattr(found, name), dtype=np.float64) for name in ARRAYS}
    if found.df is not None:
        arrays["df"] = found.degrees
    for k, factor in enumerate(factors if found.effects is not None else ()):
        arrays[f"mode_{k}"], arrays[f"error_{k}"] = found.group_effects(factor)
    words = {name: getattr(found, name) for name in WORDS}
    numbers = {k: v.item() if isinstance(v, np.generic) else v for k, v in words.items()}
    facts = {**numbers, "factors": list(factors), "shapes": {k: list(v.shape) for k, v in arrays.items()}}
    return facts, {f"estimates_{k}": v.ravel() for k, v in arrays.items() if v.size}


def unpack_estimates(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Estimates:
    """Rebuild what `pack_estimates` took apart."""
    nothing = np.zeros(0)
    found: dict[str, Any] = {
        k: np.reshape(arrays.get(f"estimates_{k}", nothing), s) for k, s in facts["shapes"].items()
    }
    words: dict[str, Any] = {k: tuple(v) if isinstance(v := facts[k], list) else v for k in WORDS}
    effects = None
    if "mode_0" in found:
        stored = {name: (found[f"mode_{k}"], found[f"error_{k}"]) for k, name in enumerate(facts["factors"])}
        effects = stored.__getitem__
    errors = Errors(found["se"], found["beta_covariance"], found["theta_covariance"])
    own = {"estimate": found["estimate"], "theta": found["theta"], "errors": errors}
    return Estimates(**words, **own, df=found.get("df"), effects=effects)

"""A model: formula and data, family, effects and priors bound together, frozen and printable."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou import binding, design, families, streaming
from bayou._types import Array, Integers
from bayou.binding import BoundPriors
from bayou.design import Design, passes
from bayou.errors import DataError, FormulaError
from bayou.families import Family
from bayou.formula import Formula, parse
from bayou.priors import Priors
from bayou.priors.codes import EXPONENTIAL, HALF_NORMAL, HALF_T, NORMAL, STUDENT_T, UNIFORM

if TYPE_CHECKING:
    from bayou.conditional.structure import Structure
    from bayou.effects.base import Effect
    from bayou.fitting import Fit


@dataclass(frozen=True)
class Working:
    """The fixed effects as the engines see them: columns centred, awkward priors last.

    beta (printed) = to_printed @ working beta, X (working) = X @ to_printed.

    Attributes
    ----------
    printed
        X as printed, (n, P).
    order
        Which printed column each working one is, (P,).
    shift
        What is taken off each, (P,): its mean, or zero.
    to_printed
        (P, P).
    mean, precision
        The Gaussian part of the prior in working coordinates.
    codes, parameters
        Priors of the last columns, those that are not Gaussian: (m,), (m, 3).
    intercept
        Working column of ones whose prior is Gaussian, or None.
    """

    printed: Array
    order: Integers
    shift: Array
    to_printed: Array
    mean: Array
    precision: Array
    codes: Integers
    parameters: Array
    intercept: int | None

    @cached_property
    def X(self) -> Array:
        """The working columns (n, P), C-ordered, made at first use: what works on parts of the rows asks `part`."""
        return self.part(slice(None))

    def part(self, rows: slice) -> Array:
        """Return the working columns of some rows, C-ordered."""
        out = np.ascontiguousarray(self.printed[rows][:, self.order])
        out -= self.shift
        return out

    def inside(self, i: int) -> float:
        """Return a value within the support of the i-th awkward prior."""
        code, (a, b, _) = self.codes[i], self.parameters[i]
        if code == UNIFORM:
            return float(0.5 * (a + b)) if not a < 0.0 < b else 0.0
        if code not in (HALF_NORMAL, HALF_T, EXPONENTIAL):
            return 0.0
        column = len(self.order) - len(self.codes) + i
        x, shift = self.printed[:, self.order[column]], self.shift[column]
        most = max((float(np.abs(x[part] - shift).max()) for part in passes.parts(len(x))), default=0.0)
        return min(self.scale(i), 1.0 / max(most, 1e-300))

    def scale(self, i: int) -> float:
        """Return how wide the i-th awkward prior is, infinity if it is flat."""
        code, (a, b, c) = self.codes[i], self.parameters[i]
        if code == UNIFORM:
            return float(0.5 * (b - a))
        if code == EXPONENTIAL:
            return float(1.0 / a)
        return float({NORMAL: b, STUDENT_T: c, HALF_NORMAL: a, HALF_T: b}.get(int(code), np.inf))

    @property
    def curvature(self) -> Array:
        """About what each awkward prior adds to the diagonal of a precision, (P,); zero for the Gaussian ones."""
        out = np.zeros(len(self.mean))
        for i in range(len(self.codes)):
            out[len(out) - len(self.codes) + i] = self.scale(i) ** -2
        return out

    @property
    def shift_direction(self) -> Array:
        """The unit vector of the intercept (zeros without one)."""
        e = np.zeros(len(self.mean))
        if self.intercept is not None:
            e[self.intercept] = 1.0
        return e


class Model:
    """A Bayesian (generalized) linear mixed model, bound to its data.

    Parameters
    ----------
    formula
        Text as in ``"y ~ x + (1 + x | g)"``, or a `Formula`.
    data
        pandas, polars or pyarrow table, dict of columns, or a path to CSV or Parquet; a folder of Parquet files, a
        polars LazyFrame, a DuckDB relation or a pyarrow Dataset.
    family
        A name ("gaussian", "bernoulli", "binomial", "poisson", "negative_binomial", "gamma") or a
        family from `bayou.families`.
    priors
        `Priors`, a dict with the same keys, or None for the defaults.
    weights, sigma_by
        Names of columns: prior weights; a factor with one residual sd per level.
    missing
        "error", or "drop" to drop and count rows with missing values.
    functions
        Functions of one column that the formula may call, by name.
    structures
        The graphs and matrices that structured effects name: ``structures={"W": edges, "A": matrix}`` for
        ``bym2(area, graph=W)`` and ``(1 | animal, covariance=A)``; see `bayou.fit`.
    stream
        Whether rows are read in blocks and summed, merged or kept in files; see `bayou.fit`.

    Attributes
    ----------
    effects
        One `bayou.effects.base.Effect` for each structured effect of the design.
    priors_given
        Whether priors were given: engines that maximise a likelihood use none otherwise.

    Raises
    ------
    FormulaError, DataError, PriorError, ImproperPosterior
        Before anything is computed, saying what is wrong and what to do.

    Examples
    --------
    >>> import bayou
    >>> model = bayou.Model("score ~ ses + (1 + ses | school)", bayou.datasets.load("school"))
    >>> model.design.coefficients
    ('Intercept', 'ses')
    """

    def __init__(
        self,
        formula: str | Formula,
        data: Any,
        family: str | Family = "gaussian",
        priors: Priors | Mapping[str, Any] | None = None,
        *,
        weights: str | None = None,
        sigma_by: str | None = None,
        missing: str = "error",
        functions: Mapping[str, Callable[..., Any]] | None = None,
        structures: Mapping[str, Any] | None = None,
        stream: bool | str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(formula, (str, Formula)):
            raise FormulaError(
                f"the formula is of type {type(formula).__name__}: give text such as 'y ~ x + (1 | g)' first, "
                "then the data."
            )
        if sigma_by is not None and not isinstance(sigma_by, str):
            raise DataError(f"sigma_by is of type {type(sigma_by).__name__}: give the name of a column of the data.")
        parsed = parse(formula, functions or {}) if isinstance(formula, str) else formula
        chosen = families.get(family)
        built = streaming.build(
            parsed,
            data,
            chosen,
            stream=stream,
            weights=weights,
            sigma_by=sigma_by,
            missing=missing,
            functions=functions,
            structures=structures,
        )
        self._bind(built, priors)

    @classmethod
    def of(cls, built: Design, priors: Priors | Mapping[str, Any] | None = None) -> Model:
        """Return the model of a design that is built already.

        Parameters
        ----------
        built
            The design, its family included.
        priors
            As in `Model`.
        """
        model = cls.__new__(cls)
        model._bind(built, priors)
        return model

    def _bind(self, built: Design, priors: Priors | Mapping[str, Any] | None) -> None:
        design.check_sizes(built)
        self.priors_given = priors is not None and len(Priors.of(priors)) > 0
        effects = binding.build_effects(built)
        self._set(built, binding.bind(priors, built, effects), effects)

    def _set(self, built: Design, bound: BoundPriors, effects: tuple[Effect, ...] | None = None) -> None:
        self.design = built
        self.bound = bound
        self.effects = binding.build_effects(built) if effects is None else effects
        self.family: Family = built.family

    @property
    def text(self) -> str:
        """The formula as written."""
        return self.design.formula.text

    @property
    def priors(self) -> Priors:
        """The frozen priors, numbers and all; they can be passed to another model."""
        return self.bound.as_priors()

    @property
    def dispersion_known(self) -> bool:
        """Whether each row's standard error was given (`measured(y, se)`)."""
        return self.design.standard_errors is not None

    @cached_property
    def working(self) -> Working:
        """The coordinates in which engines work."""
        X, names = self.design.X, self.design.coefficients
        P = X.shape[1]
        bound = self.bound
        awkward = bound.beta_codes != 0
        one = names.index("Intercept") if "Intercept" in names else None
        if one is not None and awkward[one]:
            one = None
        back = np.eye(P)
        if one is not None:
            back[one] = -self.design.moments.fixed.mean
            back[one, one] = 1.0
        order = np.argsort(awkward, kind="stable")
        back = back[:, order]
        shift = np.zeros(P) if one is None else np.where(order == one, 0.0, -back[one])
        intercept = int(np.flatnonzero(order == one)[0]) if one is not None else None
        return Working(
            printed=X,
            order=order,
            shift=shift,
            to_printed=back,
            mean=np.asarray(np.linalg.solve(back, bound.beta_mean), dtype=np.float64) if P else bound.beta_mean,
            precision=back.T @ bound.beta_precision @ back,
            codes=bound.beta_codes[order][P - int(awkward.sum()) :],
            parameters=bound.beta_parameters[order][P - int(awkward.sum()) :],
            intercept=intercept,
        )

    def sizes(self, X: Array) -> Array:
        """Return the root mean squares (P,) of the working columns, over the rows as given; X holds those kept."""
        if self.design.reduced is None or not X.shape[1]:
            return np.sqrt(np.mean(np.square(X), axis=0)) if X.shape[1] else np.ones(0)
        fixed, back, at = self.design.moments.fixed, self.working.to_printed, self.working.intercept
        out = np.array([(fixed.rms if at is None else fixed.sd)[np.flatnonzero(column)[-1]] for column in back.T])
        if at is not None:
            out[at] = 1.0
        return out

    @cached_property
    def structure(self) -> Structure:
        """The system of equations of its coefficients: what is eliminated, what is left, dense or sparse."""
        from bayou.conditional.structure import structure

        return structure(self)

    def working_position(self, c: int) -> int:
        """Where column c of the printed X stands among the working columns."""
        awkward = self.bound.beta_codes != 0
        order = np.argsort(awkward, kind="stable")
        return int(np.flatnonzero(order == c)[0])

    def sample_prior(self, draws: int = 1000, seed: int | None = None) -> dict[str, Array]:
        """Draw from the priors: fixed effects, group sds and correlations, structured effects, dispersion.

        Parameters
        ----------
        draws
            How many.
        seed
            For a repeatable sample.

        Returns
        -------
        dict
            ``beta`` (draws, P), ``sd_g`` (draws, p) and ``cor_g`` (draws, p, p) for each factor g; for each
            structured effect ``sd_t``, ``rho_t`` or ``phi_t`` (draws,) and ``f_t`` (draws, nodes) or
            (draws, levels of by, nodes), zero along directions that its prior leaves free; and the dispersion
            by its name.

        Raises
        ------
        PriorError
            If a prior is improper (flat priors cannot be drawn from).

        Examples
        --------
        >>> import bayou
        >>> model = bayou.Model("score ~ ses + (1 | school)", bayou.datasets.load("school"))
        >>> model.sample_prior(5, seed=1)["sd_school"].shape
        (5, 1)
        """
        if not isinstance(draws, (int, np.integer)) or draws < 1:
            raise DataError(f"draws={draws!r}: give a whole number of at least 1.")
        rng = np.random.default_rng(seed)
        levels = len(self.design.sigma_levels)
        out: dict[str, Array] = {"beta": np.stack([binding.draw_beta(self.bound, rng) for _ in range(draws)])}
        for g, grouping in enumerate(self.design.groupings):
            p = grouping.Z.shape[1]
            Sigma = np.zeros((draws, p, p))
            for block in self.bound.blocks:
                if block.grouping == g:
                    ix = np.ix_(block.columns, block.columns)
                    for d in range(draws):
                        Sigma[d][ix] = binding.draw_block(block, rng)
            sd = np.sqrt(np.diagonal(Sigma, axis1=1, axis2=2))
            out[f"sd_{grouping.name}"] = sd
            if any(len(block) > 1 for block in grouping.blocks):
                out[f"cor_{grouping.name}"] = Sigma / (sd[:, :, None] * sd[:, None, :])
        for k, effect in enumerate(self.effects):
            term = self.design.structured[k]
            drawn, x = binding.draw_structured(self.bound.structured[k], effect, rng, draws)
            out |= {f"{role}_{term.name}": numbers for role, numbers in drawn.items()}
            f = x[..., : effect.observed]
            out[f"f_{term.name}"] = f[:, 0] if term.by is None else f
        if self.family.dispersion is not None and not self.dispersion_known:
            values = np.stack([binding.draw_dispersion(self.bound, rng, levels) for _ in range(draws)])
            out[self.family.dispersion] = values if self.design.sigma_by is not None else values[:, 0]
        return out

    def fit(self, engine: Any = "auto", *, seed: int | None = None, **settings: Any) -> Fit:
        """Fit this model; see `bayou.fit`."""
        from bayou.fitting import fit

        return fit(self, engine=engine, seed=seed, **settings)

    def _repr_html_(self) -> str:
        from bayou.fitting.report import model_html

        return model_html(self)

    def __repr__(self) -> str:
        from bayou.fitting.report import describe_model

        return describe_model(self)

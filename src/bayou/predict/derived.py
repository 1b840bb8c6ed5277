"""Quantities derived from the draws: expressions of parameters, shares of variance, residuals."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from scipy.special import expit, logit, ndtri

from bayou._types import Array
from bayou.errors import DataError, FormulaError, UnsafeFormula
from bayou.predict.given import given_rows
from bayou.predict.linear import Rows, Sample, blocks, training_rows
from bayou.predict.prediction import integrated_mean

if TYPE_CHECKING:
    from bayou.families import Family
    from bayou.posterior import Posterior

__all__ = ["ResidualKind", "evaluate", "residuals", "variance_shares"]

ResidualKind: TypeAlias = Literal["response", "pearson", "quantile"]

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "expit": expit,
    "logit": logit,
    "minimum": np.minimum,
    "maximum": np.maximum,
}
OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
}
LONGEST, DEEPEST = 10_000, 100


# ---- expressions ---------------------------------------------------------------------------


def evaluate(posterior: Posterior, expression: str) -> Array:
    """Compute an expression of summary rows at every draw, shape (chain, draw).

    Row names stand as they are printed, such as ``sd_clinic[Intercept]``; beside them numbers,
    ``+ - * / **``, comparisons (their average is a probability), parentheses and ``exp log sqrt abs
    expit logit minimum maximum``. Group coefficients are ``b_clinic[3,Intercept]``,
    structured effects ``f_t[3]``.

    Raises
    ------
    FormulaError
        If a name is no row of the summary, or the expression cannot be read.
    UnsafeFormula
        If the expression holds anything else.
    """
    if not isinstance(expression, str):
        raise FormulaError(f"the expression is of type {type(expression).__name__}: give text such as 'sigma**2'.")
    if len(expression) > LONGEST or _depth(expression) > DEEPEST:
        raise UnsafeFormula(f"The expression is too long or too deeply nested (at most {LONGEST} and {DEEPEST}).")
    places = dict(posterior.rows)
    if re.search(r"\b[bf]_", expression):
        places |= posterior.effect_rows()
    text, names = _with_plain_names(expression.replace("^", "**").strip(), places)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(
            f"The expression {expression!r} cannot be read; write it as "
            "'sd_g[Intercept]**2 / (sd_g[Intercept]**2 + sigma**2)'."
        ) from error
    values = {plain: posterior.values(places[name]) for plain, name in names.items()}
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(_value(tree, values, posterior), dtype=np.float64)
    except RecursionError as error:
        raise UnsafeFormula("The expression has too many parts; split it into shorter ones.") from error
    return np.broadcast_to(result, (posterior.chains, posterior.size)).copy()


def _depth(expression: str) -> int:
    """Upper bound of the nesting: brackets, and chains of signs and powers, which nest too."""
    depth = deepest = 0
    for character in expression:
        depth += (character in "([") - (character in ")]")
        deepest = max(deepest, depth)
    signs = max((len(run) for run in re.findall(r"[-+\s]{2,}", expression)), default=0)
    return max(deepest, signs, expression.count("**"), expression.count("^"))


def _with_plain_names(expression: str, places: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Replace each row name by an identifier that Python can parse."""
    known = sorted(places, key=len, reverse=True)
    chosen: dict[str, str] = {}
    # a name of the summary may be written with blanks after its commas
    pattern = "|".join(re.escape(name).replace(",", r",\s*") for name in known) or "(?!)"
    spaceless = {re.sub(r",\s*", ",", name): name for name in known}

    def plain(match: re.Match[str]) -> str:
        name = spaceless[re.sub(r",\s*", ",", match.group())]
        return f"_{list(chosen).index(name) if name in chosen else chosen.setdefault(name, str(len(chosen)))}"

    text = re.sub(rf"(?<![\w.\]])(?:{pattern})(?![\w\[])", plain, expression)
    return text, {f"_{number}": name for name, number in chosen.items()}


def _value(node: ast.AST, values: Mapping[str, Array], posterior: Posterior) -> Any:
    def inner(child: ast.AST) -> Any:
        return _value(child, values, posterior)

    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number):
            try:
                return np.float64(number)
            except OverflowError:
                pass
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](inner(left), inner(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](inner(operand))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
            return OPERATORS[type(op)](inner(left), inner(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if len(arguments) == (2 if name in ("minimum", "maximum") else 1):
                return FUNCTIONS[name](*(inner(a) for a in arguments))
            raise FormulaError(f"{name}() has the wrong number of arguments.")
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            rows = list(posterior.rows)
            shown = ", ".join(rows[:12]) + (", …" if len(rows) > 12 else "")
            raise FormulaError(f"{ast.unparse(node)!r} is not a row of the summary; the rows are {shown}.")
    raise UnsafeFormula(
        f"{ast.unparse(node)!r} is not allowed in an expression: use row names, numbers, "
        f"+ - * / ** and {', '.join(FUNCTIONS)}."
    )


# ---- shares of variance --------------------------------------------------------------------


def variance_shares(posterior: Posterior) -> dict[str, Array]:
    """Split the variance of the response on the link scale, at every draw.

    Returns
    -------
    dict
        ``fixed`` (variance over rows of X beta and of the curves without ``by``), one entry per factor (mean over
        rows of z' Sigma z) and per structured effect that acts as a group (mean of its prior variance),
        ``residual``: each of shape (S,).

    Notes
    -----
    The residual variance on the link scale is sigma² (identity), pi²/3 (logit), 1 (probit), pi²/6
    (cloglog), and log(1 + Var(y)/mu²) for log links, at the mean mu of each row averaged over groups.

    References
    ----------
    Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14: 20170213.
    """
    design = posterior.model.design
    rows, given = training_rows(design), design.given
    times = np.ones(rows.n) if design.reduced is None else design.reduced.frequency
    weights = rows.weights
    if design.reduced is not None and design.reduced.how == "summed":
        if design.weights_column is not None or design.standard_errors is not None:
            design.require_rows("A share of variance where rows have weights or standard errors")
        weights = np.ones(rows.n)  # theirs are how many rows they stand for
    elif design.reduced is not None and design.reduced.how == "merged":
        rows = given_rows(design)  # a count has the variance of its own exposure
        assert rows.frequency is not None
        times, weights = rows.frequency, rows.weights
    sample = Sample(posterior, effects=False)
    family = posterior.model.family
    first, second, residual = np.zeros((3, sample.size))
    shares = {factor: np.zeros(sample.size) for factor in sample.factors}
    areas = {k: posterior.model.design.structured[k].name for k in sample.areas}
    shares |= {name: np.zeros(sample.size) for name in areas.values()}
    roots = {factor: sample.root(factor) for factor in sample.factors}
    for part in blocks(rows.n, sample.size):
        eta = sample.fixed(rows, part)
        spread = np.zeros_like(eta)
        for factor, Z in zip(sample.factors, rows.Z, strict=True):
            share = np.square(np.einsum("spq,np->snq", roots[factor], Z[part])).sum(axis=-1)
            shares[factor] += share @ times[part]
            spread += share
        for k in sample.areas:
            share = sample.structured[k].spread(rows.structured[k], part)
            shares[areas[k]] += share @ times[part]
            spread += share
        centred = eta - rows.offset[part]
        first += centred @ times[part]
        second += np.square(centred) @ times[part]
        own = _link_variance(family, eta, spread, sample.dispersion(rows, part), weights[part])
        residual += own @ times[part]
    fixed = second / given - np.square(first / given)
    return {
        "fixed": np.maximum(fixed, 0.0),
        **{k: v / given for k, v in shares.items()},
        "residual": residual / given,
    }


def _link_variance(family: Family, eta: Array, spread: Array, dispersion: Array | None, weights: Array) -> Array:
    constants = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}
    if family.link.name in constants:
        return np.full(eta.shape, constants[family.link.name])
    mu = integrated_mean(family, eta, spread)
    variance = np.asarray(family.variance(mu, dispersion)) / np.where(weights > 0.0, weights, 1.0)
    if family.link.name == "identity":
        return np.broadcast_to(variance, eta.shape)
    return np.log1p(variance / np.square(mu))


# ---- residuals -----------------------------------------------------------------------------


def residuals(posterior: Posterior, kind: ResidualKind = "response", seed: int | None = None) -> Array:
    """Return what the model leaves unexplained in each row, shape (n,).

    Parameters
    ----------
    posterior
        A result that kept draws of the group coefficients.
    kind
        ``"response"``: y minus its posterior mean (binomial: in counts); ``"pearson"``: that over
        its standard deviation; ``"quantile"``: the normal quantile of the posterior probability of a
        smaller outcome, randomised between the steps of a discrete response (standard normal if the
        model is right).
    seed
        Of the randomisation; None takes the seed of the fit.

    References
    ----------
    Dunn & Smyth (1996), Journal of Computational and Graphical Statistics 5, 236-244.
    """
    if kind not in ("response", "pearson", "quantile"):
        raise DataError(f"kind={kind!r} is not known; kind is one of 'response', 'pearson', 'quantile'.")
    design, family = posterior.model.design, posterior.model.family
    design.require_rows("A residual")
    rows, sample = training_rows(design), Sample(posterior, effects=True)
    out = np.empty(rows.n)
    mixture = np.random.default_rng(posterior.info.get("seed") if seed is None else seed).random(rows.n)
    for part in blocks(rows.n, sample.size):
        eta = sample.fixed(rows, part) + sample.observed(rows, part)
        dispersion = sample.dispersion(rows, part)
        y, trials, weights = design.y[part], rows.trials[part], rows.weights[part]
        if kind == "quantile":
            upper = family.cdf(y, eta, dispersion, trials=trials, weights=weights).mean(axis=0)
            lower = upper
            if family.name not in ("gaussian", "gamma"):
                lower = family.cdf(y - 1.0, eta, dispersion, trials=trials, weights=weights).mean(axis=0)
            chance = lower + mixture[part] * (upper - lower)
            out[part] = ndtri(np.clip(chance, 1e-300, 1.0 - 1e-16))
            continue
        mu = family.mean(eta)
        out[part] = y - trials * mu.mean(axis=0)
        if kind == "pearson":
            out[part] /= np.sqrt(_variance(family, mu, dispersion, rows, part).mean(axis=0))
    return out


def _variance(family: Family, mu: Array, dispersion: Array | None, rows: Rows, part: slice) -> Array:
    variance = family.variance(mu, dispersion) * rows.trials[part]
    weights = rows.weights[part] if family.name == "gaussian" else 1.0
    with np.errstate(divide="ignore"):
        return np.asarray(variance / weights)

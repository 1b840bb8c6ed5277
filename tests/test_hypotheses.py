"""Hypotheses as text and as matrices."""

from __future__ import annotations

import numpy as np
import pytest

import bayou
from bayou.errors import BayouError, DataError, FormulaError, UnsafeFormula
from bayou.inference.hypotheses import in_words, linear_hypothesis
from bayou.inference.terms import containing, fixed_terms, sum_coded
from small_samples import split_plot

FORMULA = "y ~ management * seed + poly(x, 2) + C(block) + I(x^2):seed"


def design(formula: str = "y ~ management * seed + x"):
    return bayou.Model(formula, split_plot()).design


def row(names, **weights):
    return [float(weights.get(name.replace("[", "_").replace("]", "").replace(":", "__"), 0)) for name in names]


@pytest.mark.parametrize(
    ("text", "rows", "rhs"),
    [
        ("x = 0", [{"x": 1}], [0]),
        ("x", [{"x": 1}], [0]),
        ("x == 2e-1", [{"x": 1}], [0.2]),
        ("beta[x] = 0", [{"x": 1}], [0]),
        ("2*x - seed[s2]/4 = 1 - x", [{"x": 3, "seed_s2": -0.25}], [1]),
        ("-(x - 2*(seed[s2] + 1)) = 0", [{"x": -1, "seed_s2": 2}], [-2]),
        ("x*3 + .5 = +1", [{"x": 3}], [0.5]),
        ("x = seed[s2] = 1", [{"x": 1, "seed_s2": -1}, {"seed_s2": 1}], [0, 1]),
        ("x = 0, seed[s4] = 2", [{"x": 1}, {"seed_s4": 1}], [0, 2]),
        ("x = 0;\n seed[s4] = 2,", [{"x": 1}, {"seed_s4": 1}], [0, 2]),
        ("seed", [{"seed_s2": 1}, {"seed_s3": 1}, {"seed_s4": 1}], [0, 0, 0]),
        ("seed = x", [{"seed_s2": 1, "x": -1}, {"seed_s3": 1, "x": -1}, {"seed_s4": 1, "x": -1}], [0, 0, 0]),
        ("management[b_graze]:seed[s3]", [{"management_b_graze__seed_s3": 1}], [0]),
        ("seed[s3]:management[b_graze]", [{"management_b_graze__seed_s3": 1}], [0]),
        (["x = 1", "Intercept"], [{"x": 1}, {"Intercept": 1}], [1, 0]),
    ],
)
def test_text_is_a_matrix(text, rows, rhs) -> None:
    of = design()
    found = linear_hypothesis(of, text)
    np.testing.assert_array_equal(found.L, [row(of.coefficients, **r) for r in rows])
    np.testing.assert_array_equal(found.rhs, rhs)


def test_terms_stand_for_their_columns() -> None:
    of = design(FORMULA)
    for term in fixed_terms(of):
        found = linear_hypothesis(of, term.name)
        np.testing.assert_array_equal(found.L, np.eye(len(of.coefficients))[list(term.columns)])
    names = [term.name for term in fixed_terms(of)]
    assert names == ["Intercept", "management", "seed", "poly(x, 2)", "C(block)", "management:seed", "I(x^2):seed"]
    columns = sorted(k for term in fixed_terms(of) for k in term.columns)
    assert columns == list(range(len(of.coefficients)))
    assert len(linear_hypothesis(of, "seed:management").L) == 6
    assert len(linear_hypothesis(of, "block").L) == 5  # the column inside C(block)
    assert len(linear_hypothesis(of, "poly(x,2)").L) == 2
    assert linear_hypothesis(of, "poly(x,  2)[1] = 0").words == ("poly(x, 2)[1] = 0",)


def test_every_name_of_a_design_reads_back() -> None:
    data = split_plot().rename(columns={"x": "a column"})
    data["management"] = data["management"].map({"a_none": "no = 0", "b_graze": "light, then hard", "c_mow": "x > 1"})
    of = bayou.Model("y ~ management * `a column` + seed", data).design
    for k, name in enumerate(of.coefficients):
        found = linear_hypothesis(of, f"2*{name} = 1")
        np.testing.assert_array_equal(found.L, 2.0 * np.eye(len(of.coefficients))[[k]])


def test_random_combinations_read_back_from_their_words(rng) -> None:
    of = design()
    for _ in range(50):
        L = rng.integers(-3, 4, len(of.coefficients)) * rng.choice([1.0, 0.5, 0.125], len(of.coefficients))
        if not L.any():
            continue
        right = float(rng.integers(-2, 3))
        found = linear_hypothesis(of, in_words(L, right, of.coefficients))
        np.testing.assert_allclose(found.L[0], L, rtol=1e-12)
        assert found.rhs[0] == right


def test_matrices() -> None:
    of = design("y ~ x + seed")
    L = [[0, 1, 0, 0, 0], [0, 0, 1, -2, 0]]
    found = linear_hypothesis(of, L, [1, 2])
    np.testing.assert_array_equal(found.rhs, [1, 2])
    assert len(found.words) == 2 and linear_hypothesis(of, L[0], 3).rhs.tolist() == [3]
    for wrong, right, words in [
        (np.eye(3), None, "5 columns"),
        (np.zeros((0, 5)), None, "5 columns"),
        (L, [1, 2, 3], "one number, or one for each of 2"),
        ([[0, np.nan, 0, 0, 0]], None, "not finite"),
        ([[0, 0, 0, 0, 0]], None, "cancel"),
        ([L[0], L[0]], None, "repeats or contradicts"),
        (np.vstack([np.eye(5), np.ones(5)]), None, "repeats or contradicts"),
        (object(), None, "matrix of numbers"),
        ("x = 0", 1, "rhs="),
    ]:
        with pytest.raises(DataError, match=words):
            linear_hypothesis(of, wrong, right)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xx = 0", "neither a coefficient nor a term. Did you mean `x`"),
        ("management[b] = 0", "management.b_graze."),
        ("management:x", "neither"),
        ("x.real = 0", "neither"),
        ("foo(x) = 0", "neither"),
        ("x > 0", "equation"),
        ("x != 0", "equation"),
        ("x*x = 0", "not linear"),
        ("1/x = 0", "not linear"),
        ("x/0 = 0", "by zero"),
        ("x = 1e999", "finite"),
        ("1 = 2", "without a coefficient"),
        ("x = x", "without a coefficient"),
        ("x =", "at its end"),
        ("", "at its end"),
        ("(x", "at its end"),
        ("2x = 1", "at 'x'"),
        ("x seed[s2]", "at 'seed"),
        ("seed = management", "3 columns against one of 2"),
        ("x = 0, 2*x = 0", "repeats or contradicts"),
        ("x = 0, x = 1", "repeats or contradicts"),
    ],
)
def test_what_cannot_be_read_says_why(text, words) -> None:
    with pytest.raises((FormulaError, DataError), match=words):
        linear_hypothesis(design(), text)


@pytest.mark.parametrize("text", ["x ^ 2", "x @ y", "x = {1}", "x'", "(" * 60 + "x" + ")" * 60, "-" * 60 + "x", "x" * 20_000])
def test_what_is_outside_the_grammar_is_unsafe(text) -> None:
    with pytest.raises(UnsafeFormula):
        linear_hypothesis(design(), text)


def test_junk_ends_in_an_error_of_ours(rng) -> None:
    of = design()
    parts = ["x", "seed", "[", "]", "(", ")", "=", ",", "*", "/", "-", "+", "1", "0.5", "seed[s2]", ":", " ", "_0", "if", "\n"]
    for _ in range(400):
        text = "".join(rng.choice(parts, rng.integers(1, 9)))
        try:
            found = linear_hypothesis(of, text)
        except BayouError:
            continue
        assert np.isfinite(found.L).all() and np.linalg.matrix_rank(found.L) == len(found.L)


def test_sum_coding_has_the_same_fit_and_rows_that_sum_to_zero() -> None:
    """Type III of a two-way layout: equal weights of cell means, written out by hand."""
    data = split_plot()
    model = bayou.Model("y ~ management * seed", data)
    coded = sum_coded(model)
    cells = [(m, s) for m in sorted(set(data["management"])) for s in sorted(set(data["seed"]))]
    X = model.design.rebuild({"management": [m for m, _ in cells], "seed": [s for _, s in cells]}).X
    means = X.reshape(3, 4, -1)
    term = next(t for t in fixed_terms(model.design) if t.name == "management")
    by_hand = means.mean(axis=1) - means.mean(axis=(0, 1))
    np.testing.assert_allclose(coded[list(term.columns)], by_hand[:2], atol=1e-12)
    again = bayou.Model("y ~ C(management, Sum) * C(seed, Sum)", data)
    np.testing.assert_allclose(sum_coded(again), np.eye(12), atol=1e-12)


def test_a_term_is_contained_in_one_with_more_categories_and_the_same_numbers() -> None:
    terms = {t.name: t for t in fixed_terms(design("y ~ management * x + seed"))}
    assert containing(terms["x"], terms["management:x"])
    assert not containing(terms["management"], terms["management:x"])
    assert not containing(terms["x"], terms["management"]) and not containing(terms["x"], terms["x"])

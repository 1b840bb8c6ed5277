"""Sums over rows against dense products."""

import numpy as np
import pytest

import oracle
from bayou.sufficient import residual_squares, sufficient
from gaussian_models import STRUCTURES, build, prepared, put


@pytest.mark.parametrize("structure", STRUCTURES)
def test_residual_squares_without_the_rows(structure, rng):
    model = build(structure)
    sums, target, state = prepared(model)
    design = model.design
    for _ in range(3):
        point = oracle.draw_from_prior(model, rng)
        put(model, sums, target, state, point)
        out = np.zeros(len(point.dispersion))
        residual_squares(target.cells, target.arrow, state.rest, state.b, out)
        e = design.y - oracle.linear_predictor(model, point.beta, point.b)
        weights = oracle.row_precision(model, np.ones(len(out)))
        expected = np.bincount(design.sigma_codes, weights * e * e, minlength=len(out))
        np.testing.assert_allclose(out, expected, rtol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_sums_are_the_dense_products(structure):
    """Z'WZ, Z'W(rest), (rest)'W(rest) and those with y, by level of sigma."""
    model = build(structure)
    sums = sufficient(model)
    design, cells = model.design, sums.cells
    A = oracle.dense(model)
    widths = [g.Z.shape[1] * len(g.levels) for g in design.groupings]
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(int)
    parts = [A[:, starts[g] : starts[g + 1]] for g in sums.order]
    first = parts[0] if parts else np.zeros((design.n, 0))
    rest = np.hstack([*parts[1:], model.working.X])
    y = design.y - design.offset - sums.shift
    weights = oracle.row_precision(model, np.ones(len(design.sigma_levels)))
    p = cells.A.shape[1]
    assert cells.rows.sum() == design.n
    for s in range(len(cells.rows)):
        w = np.where(design.sigma_codes == s, weights, 0.0)
        np.testing.assert_allclose(np.tril(cells.D[s]), np.tril((rest.T * w) @ rest), atol=1e-10)
        np.testing.assert_allclose(cells.d[s], (rest.T * w) @ y, atol=1e-10)
        np.testing.assert_allclose(cells.squares[s], (w * y) @ y, rtol=1e-12)
        cross = (first.T * w) @ rest
        square = (first.T * w) @ first
        linear = (first.T * w) @ y
        seen = np.zeros(len(linear), dtype=bool)
        for c in np.flatnonzero(cells.level == s):
            j = cells.group[c]
            mine = slice(j * p, (j + 1) * p)
            seen[mine] = True
            np.testing.assert_allclose(cells.A[c], square[mine, mine], atol=1e-10)
            np.testing.assert_allclose(cells.a[c], linear[mine], atol=1e-10)
            touched = sums.pattern.touch[sums.pattern.start[j] : sums.pattern.start[j + 1]]
            C = cells.C[cells.offset[c] : cells.offset[c + 1]].reshape(p, len(touched))
            full = np.zeros((p, rest.shape[1]))
            full[:, touched] = C
            np.testing.assert_allclose(full, cross[mine], atol=1e-10)
        # nothing is left out
        np.testing.assert_allclose(square[~seen], 0.0, atol=0)


def test_the_factor_with_most_coefficients_is_eliminated():
    model = build("crossed")
    assert [model.design.groupings[g].name for g in sufficient(model).order] == ["g", "h"]


def test_log_weights_is_the_constant_of_the_likelihood():
    model = build("weights")
    np.testing.assert_allclose(sufficient(model).log_weights, 0.5 * np.log(model.design.weights).sum())

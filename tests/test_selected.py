"""The selected inverse against the dense one, every element of the pattern, by columns and by blocks."""

import numpy as np
import pytest

from bayou.linalg import selected, sparse
from bayou.linalg.symbolic import analyse, positions
from bayou.packed import packed
from sparse_zoo import dense, lattice, lower, zoo

ZOO = zoo()
WAYS = [(order, supernodal) for order in ("minimum_degree", "natural") for supernodal in (False, True)]


def inverted(pattern, **how):
    indptr, indices, values = pattern
    symbolic = analyse(indptr, indices, **how)
    factor = sparse.new_factor(symbolic)
    s, f = packed(symbolic), packed(factor)
    assert sparse.factorise(s, values, f)
    before = factor.values.copy()
    out = np.full(symbolic.stored, np.nan)
    selected.selected_inverse(s, f, out)
    np.testing.assert_array_equal(factor.values, before)  # the factor is left as it was
    return symbolic, s, f, out


@pytest.mark.parametrize(("order", "supernodal"), WAYS)
@pytest.mark.parametrize("name", ZOO)
def test_every_element_of_the_pattern(name, order, supernodal):
    pattern, last = ZOO[name]
    symbolic, s, f, out = inverted(pattern, order=order, last=last, supernodal=supernodal)
    n = symbolic.n
    inverse = np.linalg.inv(dense(pattern))
    rows, columns = np.indices((n, n))
    at = positions(symbolic, rows, columns)
    inside = at >= 0
    assert inside.sum() >= 2 * symbolic.nnz - n
    scale = np.abs(inverse).max(initial=0.0)
    np.testing.assert_allclose(out[at[inside]], inverse[inside], rtol=0, atol=1e-10 * scale)
    found = np.empty(n)
    selected.diagonal(s, out, found)
    np.testing.assert_allclose(found, inverse.diagonal(), rtol=1e-10)
    # a second time in the same scratch, and after another factorisation
    indptr, _, values = pattern
    assert sparse.factorise(s, 4.0 * values, f)
    again = np.empty_like(out)
    selected.selected_inverse(s, f, again)
    np.testing.assert_allclose(again[at[inside]], 0.25 * inverse[inside], rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("supernodal", [False, True])
def test_a_lattice_with_blocks_for_blas(supernodal):
    """Large enough for both kinds of blocks; covariances of neighbours too."""
    pattern = lower(lattice(45, 50))
    symbolic, s, f, out = inverted(pattern, supernodal=supernodal)
    inverse = np.linalg.inv(dense(pattern))
    indptr, indices, _ = pattern
    columns = np.repeat(np.arange(symbolic.n), np.diff(indptr))
    np.testing.assert_array_equal(positions(symbolic, indices, columns), symbolic.target)
    np.testing.assert_allclose(out[symbolic.target], inverse[indices, columns], rtol=1e-10)


def test_the_trace_that_gradients_need():
    """tr(A⁻¹ dA) from the pattern of A alone is the derivative of the log determinant."""
    indptr, indices, values = ZOO["crossed"][0]
    symbolic, s, f, out = inverted((indptr, indices, values))
    twice = np.where(np.isin(np.arange(len(values)), indptr[:-1]), 1.0, 2.0)
    trace = (twice * values * out[symbolic.target]).sum()
    np.testing.assert_allclose(trace, symbolic.n, rtol=1e-11)  # A⁻¹ A = I

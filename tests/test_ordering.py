"""Minimum degree: permutations, and fill beside the exact minimum degree by brute force."""

import numpy as np
import pytest

from bayou.linalg.ordering import minimum_degree
from bayou.linalg.symbolic import analyse
from sparse_zoo import dense, lattice, lower, nested, structure, walk, zoo

ZOO = zoo()


def fill(A, order):
    """Numbers in L by elimination on sets."""
    neighbours = [set(np.flatnonzero(row)) - {i} for i, row in enumerate(A)]
    total = 0
    for p in order:
        around = neighbours[p]
        total += 1 + len(around)
        for i in around:
            neighbours[i] = (neighbours[i] | around) - {i, p}
    return total


def exact_minimum_degree(A):
    """The oracle: eliminate a variable of least degree, count all degrees anew."""
    neighbours = [set(np.flatnonzero(row)) - {i} for i, row in enumerate(A)]
    left = set(range(len(A)))
    order = []
    while left:
        p = min(left, key=lambda i: (len(neighbours[i]), i))
        order.append(p)
        left.remove(p)
        for i in neighbours[p]:
            neighbours[i] = (neighbours[i] | neighbours[p]) - {i, p}
    return order


@pytest.mark.parametrize("name", ZOO)
def test_an_order_is_a_permutation(name):
    (indptr, indices, _), _ = ZOO[name]
    n = len(indptr) - 1
    order = minimum_degree(indptr, indices)
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, minimum_degree(indptr, indices))
    some = minimum_degree(indptr, indices, n // 2)
    assert np.array_equal(np.sort(some), np.arange(n // 2))


@pytest.mark.parametrize("shape", [(6, 6), (10, 10), (15, 15), (20, 20), (7, 40)])
def test_fill_of_lattices(shape):
    A = lattice(*shape)
    order = minimum_degree(*lower(A)[:2])
    A = A.toarray() != 0
    assert fill(A, order) <= 1.2 * fill(A, exact_minimum_degree(A))


@pytest.mark.parametrize("name", ["random", "random_dense", "crossed", "lattice_second_order", "nested_shuffled"])
def test_fill_of_the_zoo(name):
    pattern, _ = ZOO[name]
    A = structure(pattern)
    assert fill(A, minimum_degree(*pattern[:2])) <= 1.3 * fill(A, exact_minimum_degree(A))


@pytest.mark.parametrize("seed", range(30))
def test_fill_of_random_graphs(seed):
    """Over thirty graphs of any density no order is far from the oracle's."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 70))
    A = rng.random((n, n)) < rng.uniform(0.5, 6.0) / n
    A = A | A.T | np.eye(n, dtype=bool)
    order = minimum_degree(*lower(A.astype(float))[:2])
    assert np.array_equal(np.sort(order), np.arange(n))
    assert fill(A, order) <= 1.3 * fill(A, exact_minimum_degree(A))


def test_trees_and_chains_do_not_fill():
    """What has an order without fill gets one: trees, chains, nested factors, an arrow whatever its direction."""
    rng = np.random.default_rng(3)
    n = 500
    tree = np.eye(n)
    for i in range(1, n):
        tree[i, rng.integers(0, i)] = 1.0
    tree = tree + tree.T
    shuffled = rng.permutation(n)
    tree = tree[np.ix_(shuffled, shuffled)]
    for A in (tree, walk(300).toarray(), nested(20, 5, 0, rng).toarray(), dense(ZOO["arrow_first"][0])):
        order = minimum_degree(*lower(A)[:2])
        assert fill(A, order) == np.count_nonzero(np.tril(A))


def test_a_hub_comes_last():
    n = 5000
    A = np.concatenate([[0], np.arange(n, 2 * n)])  # column 0 is full, the others are diagonal
    indptr, indices = A, np.concatenate([np.arange(n), np.arange(1, n)])
    assert minimum_degree(indptr, indices)[-1] == 0
    assert analyse(indptr, indices).nnz == 2 * n - 1

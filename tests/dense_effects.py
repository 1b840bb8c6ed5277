"""Dense algebra of singular, constrained Gaussians, by eigenvectors alone: what the effects are held against."""

import numpy as np


def null_of(rows, tolerance=1e-9):
    """Orthonormal basis of {x: rows x = 0}."""
    U, s, Vt = np.linalg.svd(rows)
    return Vt[int((s > tolerance * max(s.max(initial=0.0), 1e-300)).sum()) :].T


def reduced(Q, C):
    """Eigenvalues and directions of Z'QZ, and how many of them are zero."""
    Z = null_of(C) if len(C) else np.eye(len(Q))
    values, vectors = np.linalg.eigh(Z.T @ Q @ Z)
    zero = values < 1e-9 * values.max()
    return values[~zero], Z @ vectors[:, ~zero], int(zero.sum())


def log_pseudo_determinant(Q, C):
    return float(np.log(reduced(Q, C)[0]).sum())


def covariance(Q, C):
    values, vectors, _ = reduced(Q, C)
    return (vectors / values) @ vectors.T


def slopes(function, theta, h=1e-5):
    """Central differences of a function of theta, the last axis for theta."""
    out = []
    for k in range(len(theta)):
        e = h * np.eye(len(theta))[k]
        out.append((np.asarray(function(theta + e)) - np.asarray(function(theta - e))) / (2 * h))
    return np.stack(out, axis=-1)


def check_effect(effect, theta, rtol=1e-8):
    """Everything that an effect says of itself against dense algebra."""
    theta = np.asarray(theta, dtype=float)
    d = len(effect.hyperparameters)
    assert theta.shape == (d,)
    Q = effect.dense(theta)
    C = effect.constraints
    assert Q.shape == (effect.size, effect.size)
    np.testing.assert_array_equal(Q, Q.T)
    # the pattern: whole diagonal first, rows increasing
    assert effect.indptr.dtype == effect.indices.dtype == effect.anchors.dtype == np.int64
    np.testing.assert_array_equal(effect.indices[effect.indptr[:-1]], np.arange(effect.size))
    for j in range(effect.size):
        assert np.all(np.diff(effect.indices[effect.indptr[j] : effect.indptr[j + 1]]) > 0)
    np.testing.assert_allclose(C @ C.T, np.eye(len(C)), atol=1e-12)
    assert C.shape == (len(effect.anchors), effect.size)
    values, _, zeros = reduced(Q, C)
    assert (zeros, len(values)) == (effect.null, effect.rank)
    np.testing.assert_allclose(effect.log_determinant(theta), np.log(values).sum(), rtol=rtol, atol=rtol * len(values))
    np.testing.assert_allclose(
        effect.log_determinant_slopes(theta), slopes(effect.log_determinant, theta), rtol=1e-6, atol=1e-6
    )
    exact = effect.coefficient_slopes(theta)
    assert exact.shape == (len(effect.matrices), d)
    close = 1e-6 * max(1.0, np.abs(exact).max())
    np.testing.assert_allclose(exact, slopes(effect.coefficients, theta), rtol=1e-6, atol=close)
    reference = covariance(Q, C)
    np.testing.assert_allclose(effect.covariance(theta), reference, rtol=0, atol=1e-7 * np.abs(reference).max())
    # Q N = 0; anchors remove what the constraints remove
    N = effect.null_basis(theta)
    np.testing.assert_allclose(N.T @ N, np.eye(N.shape[1]), atol=1e-10)
    assert np.abs(Q @ N).max(initial=0.0) < 1e-8 * np.abs(Q).max()
    anchored = Q + np.diag(np.bincount(effect.anchors, minlength=effect.size) * np.abs(Q).max())
    eigenvalues = np.linalg.eigvalsh(anchored)
    # a constraint that meets no null direction (of a season) has an anchor that removes one more
    assert (eigenvalues < 1e-10 * eigenvalues.max()).sum() <= effect.null
    assert len(set(effect.anchors)) == len(effect.anchors)


def check_draws(effect, theta, rng, count=4000):
    """Draws have the constraints, and the covariance within five standard errors of its elements."""
    theta = np.asarray(theta, dtype=float)
    x = effect.draw(theta, rng, count)
    assert x.shape == (count, effect.replicates, effect.size)
    scale = np.abs(x).max()
    assert np.abs(x @ effect.constraints.T).max(initial=0.0) < 1e-9 * scale
    assert np.abs(x @ effect.free_basis(theta)).max(initial=0.0) < 1e-9 * scale
    V = effect.covariance(theta)
    flat = x.reshape(-1, effect.size)
    found = flat.T @ flat / len(flat)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / len(flat))
    assert np.all(np.abs(found - V) <= 5.0 * error + 1e-12 * scale**2)
    each = effect.draw_each(np.tile(theta, (300, 1)), rng)
    assert each.shape == (300, effect.replicates, effect.size)
    ratio = np.trace(np.atleast_2d(np.cov(each[:, 0].T))) / np.trace(V)
    spread = np.sqrt(2 * (V**2).sum() / 300) / np.trace(V)
    assert abs(ratio - 1) < 5 * spread

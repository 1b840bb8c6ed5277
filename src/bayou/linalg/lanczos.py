"""Log determinants and traces of matrices too large to factorise, from probes of random signs.

With a preconditioner M = L L' near S and a probe z, one run of preconditioned conjugate gradients on
S x = L z (`iterative`) gives both

    z' log(L⁻¹ S L'⁻¹) z ≈ n Σ_k v_k² log t_k,        E (L'⁻¹ z)' B x = tr(S⁻¹ B),

where t, v are the eigenvalues and the first components of the eigenvectors of the tridiagonal matrix that the
steps spell out (Lanczos). The mean over probes plus log |M| is log |S|; its standard error is that of the
mean. The probes are given: the same ones at every parameter value make a smooth function of it.

Sources: Golub & Welsch (1969), Math. Comp. 23; Hutchinson (1990), Commun. Stat. Simul. Comput. 19; Ubaru, Chen
& Saad (2017), SIAM J. Matrix Anal. Appl. 38; Gardner et al. (2018), GPyTorch, NeurIPS 31 (one run for both).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel
from bayou.linalg.iterative import Operator, Preconditioner, Run, apply, backward, iterate


class Estimate(NamedTuple):
    """A log determinant and how well it is known."""

    converged: bool
    log_determinant: float
    standard_error: float
    steps: int  # the most that a probe took


def random_signs(count: int, n: int, seed: int = 1) -> Array:
    """Return ``count`` probes of n signs, the same for the same seed."""
    bits: Integers = np.random.default_rng(seed).integers(0, 2, (count, n))
    return np.asarray(2 * bits - 1, dtype=np.float64)


@kernel(inner=True)
def _quadrature(run: Run, steps: int) -> float:
    """Σ v_k² log t_k of the tridiagonal matrix that the steps stand for, by implicit QL (Golub & Welsch)."""
    a, b, v = run.step, run.ratio, run.weight
    before, kept = 1.0, 0.0
    for k in range(steps):
        here = a[k]
        diagonal = 1.0 / here + kept / before
        kept = b[k] if k + 1 < steps else 0.0
        b[k] = math.sqrt(kept) / here
        a[k] = diagonal
        v[k] = 0.0
        before = here
    v[0] = 1.0
    for low in range(steps):
        for _ in range(60):
            top = low
            while top + 1 < steps and abs(b[top]) > 1e-16 * (abs(a[top]) + abs(a[top + 1])):
                top += 1
            if top == low:
                break
            # the eigenvalue of the leading 2 x 2 block that is nearer to its first element
            half = (a[low + 1] - a[low]) / (2.0 * b[low])
            bulge = a[top] - a[low] + b[low] / (half + math.copysign(math.hypot(half, 1.0), half))
            sine, cosine, carried = 1.0, 1.0, 0.0
            i = top - 1
            while i >= low:
                f, g = sine * b[i], cosine * b[i]
                length = math.hypot(f, bulge)
                b[i + 1] = length
                if length == 0.0:
                    break
                sine, cosine = f / length, bulge / length
                shifted = a[i + 1] - carried
                turn = (a[i] - shifted) * sine + 2.0 * cosine * g
                carried = sine * turn
                a[i + 1] = shifted + carried
                bulge = cosine * turn - g
                upper = v[i + 1]
                v[i + 1] = sine * v[i] + cosine * upper
                v[i] = cosine * v[i] - sine * upper
                i -= 1
            if i >= low:
                a[i + 1] -= carried
            else:
                a[low] -= carried
                b[low] = bulge
            b[top] = 0.0
    total = 0.0
    for k in range(steps):
        total += v[k] * v[k] * math.log(a[k])
    return total


@kernel
def log_determinant(
    operator: Operator, made: Preconditioner, probes: Array, solutions: Array, images: Array, run: Run,
    tolerance: float,
) -> Estimate:  # fmt: skip
    """Estimate log |S| by stochastic Lanczos quadrature.

    ``probes`` (count, n) are random signs; row k of ``solutions`` becomes S⁻¹ L z_k and that of ``images``
    L'⁻¹ z_k, from which `trace` takes its estimates. The standard error needs two probes (infinite for one).
    """
    count, n = probes.shape
    known = 0.0
    for i in range(n):
        known += 2.0 * math.log(made.values[made.indptr[i + 1] - 1])
    if n == 0:
        return Estimate(True, 0.0, 0.0, 0)
    mean, spread, longest, converged = 0.0, 0.0, 0, True
    for k in range(count):
        x, r = solutions[k], run.residual
        for i in range(n):
            x[i] = 0.0
            images[k, i] = probes[k, i]
            t = 0.0
            for q in range(made.indptr[i], made.indptr[i + 1]):
                t += made.values[q] * probes[k, made.indices[q]]
            r[i] = t
        backward(made, images[k])
        steps, reached = iterate(operator, made, x, run, n * tolerance * tolerance)
        converged = converged and reached
        longest = max(longest, steps)
        value = n * _quadrature(run, steps) if steps > 0 else math.nan
        away = value - mean
        mean += away / (k + 1)
        spread += away * (value - mean)
    error = math.sqrt(spread / (count - 1) / count) if count > 1 else math.inf
    return Estimate(converged, known + mean, error, longest)


@kernel
def trace(operator: Operator, solutions: Array, images: Array, scratch: Array) -> tuple[float, float]:
    """Estimate tr(S⁻¹ B), B given as an operator, from a run of `log_determinant`: mean and standard error."""
    count, n = solutions.shape
    mean, spread = 0.0, 0.0
    for k in range(count):
        apply(operator, solutions[k], scratch)
        value = 0.0
        for i in range(n):
            value += images[k, i] * scratch[i]
        away = value - mean
        mean += away / (k + 1)
        spread += away * (value - mean)
    return mean, math.sqrt(spread / (count - 1) / count) if count > 1 else math.inf

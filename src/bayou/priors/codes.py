"""Integer names of the scalar densities, for kernels; pure Python, so that classes need no compiler.

A code names a density of the number itself: of a coefficient, or of a standard deviation s. Added to
``OF_VARIANCE`` or ``OF_PRECISION`` it names the density of s that follows when the same density is
placed on s² or on 1/s².
"""

FLAT = 0
NORMAL = 1
STUDENT_T = 2
HALF_NORMAL = 3
HALF_T = 4
EXPONENTIAL = 5
UNIFORM = 6
GAMMA_PRECISION = 7
INVERSE_GAMMA_VARIANCE = 8
LOG_FLAT = 9
FLAT_VARIANCE = 10
OF_VARIANCE = 20
OF_PRECISION = 40

__all__ = [
    "EXPONENTIAL",
    "FLAT",
    "FLAT_VARIANCE",
    "GAMMA_PRECISION",
    "HALF_NORMAL",
    "HALF_T",
    "INVERSE_GAMMA_VARIANCE",
    "LOG_FLAT",
    "NORMAL",
    "OF_PRECISION",
    "OF_VARIANCE",
    "STUDENT_T",
    "UNIFORM",
]

"""Kernels of Metropolis-within-Gibbs for any family, on the rows."""

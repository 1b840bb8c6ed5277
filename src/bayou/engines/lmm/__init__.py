"""Kernels of Gibbs sampling for Gaussian mixed models, on sums over the rows."""

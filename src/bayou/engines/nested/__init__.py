"""Integrated nested Laplace approximation: the pieces of `bayou.engines.inla`, one purpose per file."""

"""Gaussian models of several crossed factors, one factor after the other: cost linear in the rows at any size."""

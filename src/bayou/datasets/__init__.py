"""Built-in data: one real trial, and simulated twins of textbook data sets."""

from bayou.datasets.twins import Dataset, describe, graph, load, names

__all__ = ["Dataset", "describe", "graph", "load", "names"]

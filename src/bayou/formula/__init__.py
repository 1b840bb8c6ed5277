"""Formula text, read against a white list: `parse` makes a `Formula`."""

from bayou.formula.formula import Bar, Formula, Response, arithmetic_functions, known_functions, parse

__all__ = ["Bar", "Formula", "Response", "arithmetic_functions", "known_functions", "parse"]

"""Formula text, read against a white list: `parse` makes a `Formula`."""

from bayou.formula.formula import Bar, Formula, Response, arithmetic_functions, known_functions, parse
from bayou.formula.structured import Reference, Structured

__all__ = ["Bar", "Formula", "Reference", "Response", "Structured", "arithmetic_functions", "known_functions", "parse"]

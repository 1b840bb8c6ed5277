"""How fast bayou is, beside the programs it would replace: ``make bench``, or ``python -m benchmarks``."""

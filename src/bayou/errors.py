"""Everything that bad input can cause, as children of one error."""


class BayouError(ValueError):
    """Base of every error that bayou raises on purpose: what is wrong, where, and what to do."""


class FormulaError(BayouError):
    """The formula cannot be read, or names something the data do not have."""


class UnsafeFormula(FormulaError):
    """The formula holds something outside the white list of names and functions."""


class DataError(BayouError):
    """The data cannot be used as they stand: missing, infinite, impossible or empty values."""


class PriorError(BayouError):
    """A prior has impossible numbers, or names a parameter that the model does not have."""


class ImproperPosterior(PriorError):
    """The priors and the data together do not define a probability distribution."""


class Unsupported(BayouError):
    """An engine or a function cannot take this model; the message names one that can."""


class ResourceError(BayouError):
    """The machine has not what a run would take; the message says how much, and how to need less."""


class FileError(BayouError):
    """A file cannot be read or written, or is not what it should be."""

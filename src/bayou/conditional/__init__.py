"""The keystone: the Gaussian of all coefficients given the hyperparameters, and log p(y | theta).

`conditional` is the function; `laplace` and `gaussian` compute it for engines that call it thousands of times.
"""

from bayou.conditional.joint import Conditional
from bayou.conditional.keystone import conditional

__all__ = ["Conditional", "conditional"]

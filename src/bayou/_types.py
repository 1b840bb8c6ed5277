"""Array types shared by every module."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Labels: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]

__all__ = ["Array", "Integers", "Labels", "Mask"]

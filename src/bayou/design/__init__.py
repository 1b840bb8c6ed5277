"""Formula and data become arrays: `build` makes a `Design`, which codes new data the same way."""

from bayou.design.design import Design, build
from bayou.design.grouping import Grouping
from bayou.design.newrows import NewRows
from bayou.design.sizes import check_sizes

__all__ = ["Design", "Grouping", "NewRows", "build", "check_sizes"]

"""Formula and data become arrays: `build` makes a `Design`, which codes new data the same way."""

from bayou.design.design import Design, build
from bayou.design.graphs import Graph, read_graph
from bayou.design.grouping import Grouping
from bayou.design.newrows import NewRows
from bayou.design.reduced import Distinct, Reduced, Remainder
from bayou.design.sizes import check_sizes
from bayou.design.splines import Basis
from bayou.design.structured import StructuredTerm
from bayou.design.structured_rows import StructuredRows

__all__ = ["Basis", "Design", "Distinct", "Graph", "Grouping", "NewRows", "Reduced", "Remainder", "StructuredRows"]
__all__ += ["StructuredTerm", "build", "check_sizes", "read_graph"]

"""Formula and data become arrays: `build` makes a `Design`, which codes new data the same way."""

from bayou.design.design import Design, build
from bayou.design.graphs import Graph, read_graph
from bayou.design.grouping import Grouping
from bayou.design.newrows import NewRows
from bayou.design.sizes import check_sizes
from bayou.design.splines import Basis
from bayou.design.structured import StructuredTerm
from bayou.design.structured_rows import StructuredRows

__all__ = ["Basis", "Design", "Graph", "Grouping", "NewRows", "StructuredRows", "StructuredTerm", "build"]
__all__ += ["check_sizes", "read_graph"]

"""Pictures of data and fits: one method per picture, each a matplotlib figure that nothing else holds.

>>> import bayou
>>> fit = bayou.fit("score ~ ses + (ses | school)", bayou.datasets.load("school"), seed=1, draws=200)
>>> picture = fit.plot.groups(limit=6)
>>> picture.get_suptitle()
'school: each level along ses'
"""

from bayou.plot.exploration import explore
from bayou.plot.plots import Plots
from bayou.plot.style import Picture

__all__ = ["Picture", "Plots", "explore"]

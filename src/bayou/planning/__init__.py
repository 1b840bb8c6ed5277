"""What a fit will take, before anything runs: rows, groups, memory, seconds, and the cheapest way to do it."""

from bayou.planning.costs import Machine, Way
from bayou.planning.planned import Plan, plan
from bayou.planning.workload import Factor, Workload

__all__ = ["Factor", "Machine", "Plan", "Way", "Workload", "plan"]

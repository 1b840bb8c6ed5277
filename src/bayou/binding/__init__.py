"""Priors meet a design: defaults filled in, numbers frozen, improper posteriors refused."""

from bayou.binding.binding import bind
from bayou.binding.bound import (
    BlockPrior,
    BoundPriors,
    draw_beta,
    draw_block,
    draw_dispersion,
    log_density_beta,
    log_density_block,
    log_density_dispersion,
)

__all__ = [
    "BlockPrior",
    "BoundPriors",
    "bind",
    "draw_beta",
    "draw_block",
    "draw_dispersion",
    "log_density_beta",
    "log_density_block",
    "log_density_dispersion",
]

"""Priors meet a design: defaults filled in, numbers frozen, improper posteriors refused."""

from bayou.binding.binding import bind, build_effects
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
from bayou.binding.structured import draw_structured, log_density_block_internal, log_density_structured

__all__ = [
    "BlockPrior",
    "BoundPriors",
    "bind",
    "build_effects",
    "draw_beta",
    "draw_block",
    "draw_dispersion",
    "draw_structured",
    "log_density_beta",
    "log_density_block",
    "log_density_block_internal",
    "log_density_dispersion",
    "log_density_structured",
]

"""The sampler of models with structured effects: hyperparameters on their marginal, coefficients carried along."""

from bayou.engines.field.sampling import continue_from, field_plan

__all__ = ["continue_from", "field_plan"]

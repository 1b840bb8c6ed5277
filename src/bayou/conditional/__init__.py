"""The keystone: the Gaussian of all coefficients given the hyperparameters, and log p(y | theta)."""

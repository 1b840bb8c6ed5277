"""Latent Gaussian structures, one file each: their hyperparameters, priors and precisions."""

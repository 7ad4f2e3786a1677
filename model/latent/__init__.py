"""Distributions of the latent space, their schedules and losses."""

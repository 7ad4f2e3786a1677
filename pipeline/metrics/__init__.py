"""Scores of captions and of latent spaces."""

"""Captions and posteriors from a trained system."""

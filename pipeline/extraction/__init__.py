"""Extraction of features from image files, by worker threads or on a Ray cluster."""

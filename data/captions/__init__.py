"""Captions as a cache stores them: the vocabulary and encoded captions."""

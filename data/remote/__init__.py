"""Caches at a URL: stores, push and pull."""

"""The Python API: what ``import multispace`` offers. Import the names from there."""

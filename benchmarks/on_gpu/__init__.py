"""The parts of `benchmarks/gpu.py`. Each prints a table and returns its rows."""

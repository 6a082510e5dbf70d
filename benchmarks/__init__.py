"""Benchmarks: ratios measured in one run, beside peers. `python -m benchmarks` runs all and writes the README."""

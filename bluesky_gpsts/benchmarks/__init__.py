"""Benchmarks that anyone can run: each module has ``run(quick)``, which returns a report.

Peers and baselines are rows of the same table, measured in the same process as our own code.
"""

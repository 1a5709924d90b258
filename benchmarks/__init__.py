"""Benchmarks, the demo and the study: programs that measure the package and are no part of it."""

"""Benchmarks: run by hand or `make bench`, never part of a timed test."""

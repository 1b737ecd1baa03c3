"""Tests of ``curation``."""

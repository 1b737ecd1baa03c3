"""Curation: everything that turns pixels into rows, and rows into shards."""

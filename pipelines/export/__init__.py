"""Exports: clips of the catalog in the forms that other tools read."""

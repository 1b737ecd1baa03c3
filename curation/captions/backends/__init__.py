"""Backends: who answers caption requests."""

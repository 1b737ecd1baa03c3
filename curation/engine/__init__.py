"""Engines: how a plan's stages are run over units of work."""

"""Signals: the numbers kept of every frame, so that nothing has to be decoded twice."""

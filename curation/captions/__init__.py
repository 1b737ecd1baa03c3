"""Captions: what is asked of a captioner, by which backend, and how answers are checked."""

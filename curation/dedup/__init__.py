"""Clips that show the same: how they are found, and which of them stays."""

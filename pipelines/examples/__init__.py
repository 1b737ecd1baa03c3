"""Worked examples: stages as a user would write them."""

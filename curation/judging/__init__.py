"""Judging: which clips are kept, why the others are not, and which of the kept ones are taken."""

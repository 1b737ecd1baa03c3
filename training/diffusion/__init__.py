"""Rectified flow: times, samplers, guidance, and which frames are given."""

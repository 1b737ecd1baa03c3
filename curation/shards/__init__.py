"""Shards: kept clips as WebDataset tars with an index."""

"""From shards to batches: index, buckets, planned order, decoding, loader."""

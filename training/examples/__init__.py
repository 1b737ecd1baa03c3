"""Small whole programs that use the shards: a loop of one's own, and no Clipmill at all."""

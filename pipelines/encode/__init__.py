"""``clipmill encode``: latents and text states of all samples, beside the shards."""

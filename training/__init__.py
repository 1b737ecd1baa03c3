"""Training: planned data order, models, diffusion, parallelism and evaluation."""

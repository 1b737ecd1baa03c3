"""``clipmill train``: a training from its settings, with progress, curves and a summary."""

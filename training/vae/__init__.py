"""Training of the small video VAE: settings, crops, basis, losses, trainer, measures."""

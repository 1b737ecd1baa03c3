"""``clipmill sample``: videos from a trained denoiser."""

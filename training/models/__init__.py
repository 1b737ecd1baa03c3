"""Networks: autoencoders and text encoders (the denoiser is to come)."""

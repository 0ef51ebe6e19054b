"""Variational autoencoders: MultVAE, and RecVAE with its composite prior."""

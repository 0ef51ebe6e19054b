"""Hyper-parameters chosen on held-out ratings: `mfcore.tune`."""

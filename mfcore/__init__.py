"""mfcore."""

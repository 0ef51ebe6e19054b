"""What is asked of fitted models, and what answers that needs more than a product."""

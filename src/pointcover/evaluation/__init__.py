"""Score a model on the test split."""

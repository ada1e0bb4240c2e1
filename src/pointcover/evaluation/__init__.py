"""Scores of a model on the test split."""

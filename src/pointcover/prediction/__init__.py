"""Predict class probabilities of tiles and of whole rasters."""

"""Class probabilities of tiles and of whole rasters."""

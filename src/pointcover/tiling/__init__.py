"""Tiling: orthophotos are cut into tiles and split by region."""

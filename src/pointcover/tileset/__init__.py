"""Tile sets: what every stage after tiling reads."""

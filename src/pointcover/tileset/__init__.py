"""Tile sets: tiles, their index and metadata, which every stage after tiling reads."""

"""Rasters: reading, writing and their grids."""

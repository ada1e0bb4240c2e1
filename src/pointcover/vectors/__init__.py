"""Read and rasterise vector annotations, and write point labels for a GIS."""

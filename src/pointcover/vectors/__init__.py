"""Vector files: annotations read and rasterised, clicks written for a GIS."""

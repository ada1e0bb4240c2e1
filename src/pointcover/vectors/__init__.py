"""Vector files: real annotations read and laid on orthophotos, clicks written for a GIS."""

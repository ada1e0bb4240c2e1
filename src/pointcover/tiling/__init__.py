"""From orthophotos to tiles, split by region."""

"""Maps of whole orthophotos."""

"""Active learning: which pixels an annotator should label next."""

"""Active learning: choose the pixels that an annotator labels next."""

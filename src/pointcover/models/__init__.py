"""Models on disk: load, fetch, export, quantize."""

"""Load, fetch, export and quantise trained models."""

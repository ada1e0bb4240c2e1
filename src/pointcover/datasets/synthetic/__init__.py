"""The synthetic dataset: orthophotos and exact dense masks, made without a download."""

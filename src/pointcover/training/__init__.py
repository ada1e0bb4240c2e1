"""Training a network on sparse labels."""

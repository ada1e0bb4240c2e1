"""Training: networks are fitted on sparse labels."""

"""Networks: architectures, their weights, and checkpoints on disk."""

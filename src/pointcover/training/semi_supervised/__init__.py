"""Semi-supervised learning: losses on unlabelled pixels, and self-training with pseudo-labels."""

"""Networks: architectures, pretrained weights and checkpoints."""

"""Point labels: simulated or real clicks, and the sparse masks made of them."""

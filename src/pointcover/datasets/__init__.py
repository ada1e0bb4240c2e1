"""Datasets: cards, downloads, archives, inventories, and the synthetic dataset."""

"""Datasets: one YAML card each, and the program that draws the synthetic one."""

"""Annotation: simulated and real clicks, label propagation, and sparse masks."""

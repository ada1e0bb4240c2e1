"""Compute scores from confusion matrices, calibration, boundary F1 and bootstrap intervals."""

"""Scores from confusion matrices, calibration, boundaries and bootstrap intervals."""

"""Accuracy and areas of maps, estimated from probability samples."""

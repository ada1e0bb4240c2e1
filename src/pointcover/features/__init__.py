"""Pixel features: filters, local statistics and levels of an encoder, for pixel classifiers.

All are torch modules that turn images in 0..1 into one vector a pixel. `windows` computes them
window by window, with the margin that each of them needs.
"""

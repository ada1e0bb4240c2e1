"""Pixel features: a filter bank and the levels of a frozen encoder, for pixel classifiers.

Both are torch modules that turn images in 0..1 into one vector a pixel. `windows` computes them
window by window, with the margin that each of them needs.
"""

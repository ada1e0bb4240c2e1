"""Pixel classifiers: pixel features and a head that scores each pixel from them.

scikit-learn fits them (`pointcover.training.classifiers`); what is kept are tensors, so that they
are saved, loaded, exported and run as networks are.
"""

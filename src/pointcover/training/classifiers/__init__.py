"""Fitting pixel classifiers with scikit-learn, and writing what was fitted into tensors."""

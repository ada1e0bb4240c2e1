"""Land-cover maps from a handful of labelled points."""

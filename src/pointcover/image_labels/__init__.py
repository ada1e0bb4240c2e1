"""Labels on images without the pipeline's tiles, and what classifiers fitted on them need."""

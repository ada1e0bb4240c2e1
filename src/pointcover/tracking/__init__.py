"""Record runs and models in MLflow, run and read DVC experiments."""

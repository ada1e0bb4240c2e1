"""MLflow runs, models and DVC experiments."""

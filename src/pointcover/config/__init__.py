"""params.yaml: the settings of all packages in one validated model."""

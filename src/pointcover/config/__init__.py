"""Configuration: params.yaml as one validated model of the settings of all packages."""

"""The command line: one module for each command."""

from pointcover.cli.app import app

__all__ = ["app"]

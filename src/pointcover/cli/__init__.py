"""The command line, one module a command."""

from pointcover.cli.app import app

__all__ = ["app"]

"""Run the command line: `python -m pointcover` is `pointcover`."""

from pointcover.cli.app import app

if __name__ == "__main__":
    app(prog_name="pointcover")

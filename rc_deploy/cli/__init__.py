"""The command line. Commands parse, make an options object, call one function and show what it returns."""

from rc_deploy.cli.boundary import main

__all__ = ["main"]

"""`python -m rc_deploy` is the command line."""

from rc_deploy.cli import main

main()

"""`python -m tunewright`: the command line, where no script is on the path."""

from tunewright.cli import main

main()

"""`python -m lavindit`."""

from lavindit.cli import main

main()

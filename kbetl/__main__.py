"""Lets `python -m kbetl` run the command line."""

from kbetl.cli import main

if __name__ == "__main__":
    main()

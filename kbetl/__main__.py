"""The program's entry: the script `kbetl`, and `python -m kbetl`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Runs the command line; Ctrl-C while it is being loaded ends it at once, with 130 and no traceback."""
    try:
        from kbetl.cli import run
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

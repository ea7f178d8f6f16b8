"""The way in: `kbetl` and `python -m kbetl`. Imports nothing before Ctrl-C is in order."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Runs the command line. Interrupted while modules are imported, it ends without a traceback too."""
    try:
        from kbetl.cli import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        os.write(2, b"kbetl: interrupted\n")
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own end takes some milliseconds
    sys.exit(status)


if __name__ == "__main__":
    main()

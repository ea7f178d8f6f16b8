"""What is in a store, what is missing, what failed and why, what it cost, and what to run next."""

from kbetl.status.reading import read_status
from kbetl.status.showing import status_lines
from kbetl.status.tables import Status

__all__ = ["Status", "read_status", "status_lines"]

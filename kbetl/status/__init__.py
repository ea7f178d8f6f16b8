"""What is in a store, what is missing, what failed and why, what it cost, and what to run next."""

from kbetl.status.read import Status, read_status
from kbetl.status.show import status_lines

__all__ = ["Status", "read_status", "status_lines"]

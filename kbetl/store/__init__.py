"""Opens SQLite, as no other folder does: the store, its schema, its views, its transactions and its lock."""

from kbetl.store.connection import real_path
from kbetl.store.lock import TaskLock, is_locked, task_lock
from kbetl.store.store import COMMAND_LINE, OpenRun, ReportRow, Run, Store, now
from kbetl.store.user_sql import check_conditions, read_only_connection, read_only_query, select_samples

__all__ = [
    "COMMAND_LINE",
    "OpenRun",
    "ReportRow",
    "Run",
    "Store",
    "TaskLock",
    "check_conditions",
    "is_locked",
    "now",
    "read_only_connection",
    "read_only_query",
    "real_path",
    "select_samples",
    "task_lock",
]

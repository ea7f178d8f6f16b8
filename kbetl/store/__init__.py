"""The one place that opens SQLite: the store, its schema, its views, its transactions and its lock."""

from kbetl.store.core import Run, Store, now
from kbetl.store.guarded import guarded_connection, guarded_query
from kbetl.store.lock import TaskLock, is_locked, paying_lock
from kbetl.store.opening import real_path
from kbetl.store.selecting import check_conditions, select_samples

__all__ = [
    "Run",
    "Store",
    "TaskLock",
    "check_conditions",
    "guarded_connection",
    "guarded_query",
    "is_locked",
    "now",
    "paying_lock",
    "real_path",
    "select_samples",
]

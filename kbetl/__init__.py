"""kbetl: an incremental, resumable ETL for training data of models that write GPU kernels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbetl.api import open_store

__version__ = "0.1.0"
__all__ = ["__version__", "open_store"]


def __getattr__(name: str) -> Any:
    """`open_store`, which is loaded when somebody asks for it: commands start without it."""
    if name == "open_store":
        from kbetl.api import open_store

        return open_store
    raise AttributeError(f"module 'kbetl' has no attribute {name!r}")

"""The Hub's client, imported quietly, and what fails between here and the Hub."""

from __future__ import annotations

import os
import sys


def quiet_imports(*, is_quiet: bool = False) -> None:
    """No progress bars where nobody watches, and no notices between our lines.

    Called before the first import of `huggingface_hub` or `datasets`, or it has no effect.
    """
    if is_quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def connection_failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What a call of the Hub raises: OSError, the base class of the HTTP library in use, and `more`."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)), *more)

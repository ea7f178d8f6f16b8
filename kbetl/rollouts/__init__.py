"""Converts the lines of rollout files to rows, with one reader per shape of file. Pure functions.

A row has `prompt`, `completion`, `reward`, `info` and the fields that `rollout_facts` reads. A line that is
such a row already (prime-rl, verifiers 0.1 to 0.3) is not changed.
"""

from kbetl.rollouts.detect import (
    REQUESTS,
    Run,
    Tool,
    is_joined,
    rows_of,
    run_of_config,
    run_of_metadata,
    run_of_names,
    shape_of,
    tool_of,
)

__all__ = [
    "REQUESTS",
    "Run",
    "Tool",
    "is_joined",
    "rows_of",
    "run_of_config",
    "run_of_metadata",
    "run_of_names",
    "shape_of",
    "tool_of",
]

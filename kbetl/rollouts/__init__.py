"""One reader per shape of rollout file: a parsed line, and what its run says, become rows. Pure.

A row is a rollout as the rest of the house reads it: `prompt`, `completion`, `reward`, `info` and the fields
that `rollout_facts` knows. A line that is such a row already (prime-rl, verifiers 0.1 to 0.3) stays as it is.
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

"""Lists the datasets, one entry each, with all that export, push and lengths need to know of them.

A new dataset is an entry here and a view in sql/views. Imports nothing slow, because every command loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["rollout", "module", "record"]


class Output(NamedTuple):
    """The output of an export without -o: the path in the environment variable, else `path`."""

    variable: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """One dataset. The defaults are those of a selection of rated rollouts."""

    name: str
    title: str
    """Title of its card."""
    chosen: str
    """How its rows are selected, for the card; {good} and {rated} become the conditions of `filtered`."""
    columns: str = ""
    """Which columns its rows have, for the card; empty if `chosen` says it."""
    repository: str
    """Its default name on the Hub, with {owner} and {model}."""
    view: str
    """The public view with its rows; it has the columns sample_hash, reward and difficulty."""
    select_rows: str = "datasets/select_from_view"
    """The query that selects its rows, in order, from the samples of some sources."""
    kind: Kind = "rollout"
    """The kind of samples in it."""
    task: str | None = "difficulty"
    """The task whose outcomes it needs; None if it needs none."""
    made_of: str = "filtered"
    """The row of `store/datasets_with_rows` that tells whether it can have rows."""
    is_split: bool = False
    """Whether its rows are split into train and validation by default; else all are train."""
    is_grouped: bool = False
    """Whether it has one row per name, or with --by code one per code."""
    output: Output | None = None
    """The default output, which `kbetl run` writes; None if an export needs -o."""

    @property
    def has_completions(self) -> bool:
        """Whether its rows have completions, so that formats and token counts apply."""
        return self.kind == "rollout"

    @property
    def has_labels(self) -> bool:
        """Whether `difficulty` and `evaluation_raw` are appended to its rows."""
        return self.has_completions and self.task is not None


_ENTRIES = (
    DatasetEntry(
        name="filtered",
        title="KernelBook rollouts with their difficulty",
        chosen="Rollouts with {rated}.",
        columns="Every column of the source, unchanged and in order, and `difficulty` and `evaluation_raw` "
        "(the answer as it came).",
        repository="{owner}/kernelbook-{model}-evals-filtered",
        view="filtered",
        is_split=True,
        output=Output("FILTERED_DATASET_PATH", "outputs/filtered_dataset.jsonl"),
    ),
    DatasetEntry(
        name="unique",
        title="KernelBook rollouts, the best of each module",
        chosen="Of the rollouts with {rated} the one with the highest reward per `module_name`; on a tie "
        "the first in source order. Sorted by reward, descending; ties by where the name first came.",
        repository="{owner}/kernelbook-{model}-evals-unique",
        view="unique_best",
        select_rows="datasets/select_best",
        is_split=True,
        is_grouped=True,
        output=Output("UNIQUE_DATASET_PATH", "outputs/filtered_dataset-filtered.jsonl"),
    ),
    DatasetEntry(
        name="synthetic",
        title="KernelBook task specifications",
        chosen="For each module a specification as `prompt`, where the answer could be read.",
        repository="{owner}/kernelbook-synthetic-tasks",
        view="synthetic",
        select_rows="datasets/select_described",
        kind="module",
        task="prompts",
        made_of="synthetic",
        output=Output("SYNTHETIC_DATASET_PATH", "outputs/synthetic_prompts.jsonl"),
    ),
    DatasetEntry(
        name="evals",
        title="KernelBook rollouts",
        chosen="All rollouts of the sources, each once.",
        columns="Every column of the source, unchanged and in order.",
        repository="{owner}/kernelbook-{model}-evals",
        view="rollouts",
        select_rows="datasets/select_eligible",
        task=None,
        made_of="rollouts",
    ),
    DatasetEntry(
        name="records",
        title="Rows that are neither modules nor rollouts",
        chosen="All records of the sources, each once.",
        columns="Every column of the source, unchanged and in order.",
        repository="{owner}/kernelbook-{model}-records",
        view="records",
        select_rows="datasets/select_eligible",
        kind="record",
        task=None,
        made_of="records",
    ),
)
DATASETS: Mapping[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}
NAMES = tuple(DATASETS)

ROLLOUTS = "samples"
"""The name of all rollouts in `lengths`."""
MEASURED: Mapping[str, DatasetEntry] = {
    ROLLOUTS: DATASETS["evals"],
    **{name: entry for name, entry in DATASETS.items() if entry.has_labels},
}
"""The datasets that `lengths` measures, by their names there."""

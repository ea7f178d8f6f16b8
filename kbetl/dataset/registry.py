"""The datasets, one entry each: what they are made of, and what export, push and lengths know of them.

A new dataset is an entry here and its view in sql/views. Imports nothing that a command would wait for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["rollout", "module", "record"]


class Output(NamedTuple):
    """Where an export goes without -o: the path that the variable holds, else the usual one."""

    variable: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """One dataset. The defaults are those of a choice among rated rollouts."""

    name: str
    title: str
    """Of its card."""
    chosen: str
    """How its rows were chosen, for the card; {good} and {rated} stand for the conditions of `filtered`."""
    columns: str = ""
    """What columns its rows have as they are, for the card; empty if `chosen` says enough."""
    repository: str
    """Its usual name on the Hub, of {owner} and {model}."""
    view: str
    """The public view that holds its rows, with the columns sample_hash, reward and difficulty."""
    select_rows: str = "datasets/select_from_view"
    """The query that chooses its rows, in order, among the samples of some sources."""
    kind: Kind = "rollout"
    """The samples that it is made of."""
    task: str | None = "difficulty"
    """The task whose outcomes it is made of; None if it needs no answers."""
    made_of: str = "filtered"
    """What `store/datasets_with_rows` must find before it can have a row."""
    is_split: bool = False
    """Whether its rows are on a side, train or validation, unless told otherwise; else all are train."""
    is_grouped: bool = False
    """Whether it keeps one row of each name, or with --by code of each code."""
    output: Output | None = None
    """None if an export must say where it goes; `kbetl run` exports those that have one."""

    @property
    def has_completions(self) -> bool:
        """Whether its rows hold answers, which formats and token counts are about."""
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
"""What `lengths` calls all rollouts."""
MEASURED: Mapping[str, DatasetEntry] = {
    ROLLOUTS: DATASETS["evals"],
    **{name: entry for name, entry in DATASETS.items() if entry.has_labels},
}
"""The datasets that `lengths` counts, as it calls them."""

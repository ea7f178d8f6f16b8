"""Reads one sample with everything that the store knows of it: `kbetl show`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kbetl.config import command_line
from kbetl.errors import BadRow, ConfigError
from kbetl.json_codec import stored_value
from kbetl.samples import fields
from kbetl.samples.reading import stored_row
from kbetl.store import ReportRow, Store, select_samples

# Hexadecimal digits that a shortened hash has; more if others begin alike.
SHORT = 8
HASH_PREFIX = "s1:"
_HASH = re.compile(r"(?:s1:)?[0-9a-f]{4,64}")
_LISTED = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sample to show: a hash, its beginning or a module name, else the first one that matches."""

    name: str | None = None
    where: str | None = None
    is_random: bool = False
    is_next: bool = False
    """The one after `name`, among those of its kind."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One sample and what is known of it; each row is as its query in `sql/queries/show.sql` has it."""

    sample: ReportRow
    sources: Sequence[ReportRow]
    labels: Sequence[ReportRow]
    lengths: Sequence[ReportRow]
    filtered: str
    """Whether it is in the dataset `filtered`, and why not: `yes`, or `no, because ...`; empty: not asked."""
    unique: str
    others: Sequence[ReportRow]
    """Other samples of the same module name, the best first."""

    @classmethod
    def read(cls, store: Store, sample_hash: str, *, with_datasets: bool = True) -> Self:
        """Returns what the store knows of a sample that is in it.

        Without `with_datasets` it does not say in which datasets it is: `unique` is ranked anew for that.
        """
        chosen = {"hash": sample_hash}
        (sample,) = store.named_rows("show/shown_sample", chosen)
        name = sample["module_name"]
        alike = [] if name is None else store.named_rows("show/shown_by_name", {"name": name})
        filtered, unique = _datasets(store, sample) if with_datasets else ("", "")
        return cls(
            sample,
            store.named_rows("show/shown_sources", chosen),
            store.named_rows("show/shown_labels", chosen),
            store.named_rows("show/shown_lengths", chosen),
            filtered,
            unique,
            [each for each in alike if each["hash"] != sample_hash],
        )

    @property
    def row(self) -> fields.Row:
        """The row as it was stored."""
        value: fields.Row = stored_value(self.sample["row"])
        return value

    def as_json(self) -> dict[str, Any]:
        """For programs: everything, with the row, the requests and the answers whole."""
        labels = [{**each, "request": _from_json(each["request"])} for each in self.labels]
        parts = {name: _from_json(self.sample[name]) for name in ("rewards", "metrics")}
        return {
            **self.sample,
            **parts,
            "completion": self.completion,
            "reasoning": self.reasoning,
            "filtered": self.filtered,
            "unique": self.unique,
            "sources": self.sources,
            "lengths": self.lengths,
            "labels": labels,
            "others": self.others,
            "row": self.row,
        }

    def facts(self) -> list[tuple[str, str]]:
        """What is known but its texts and labels: names and values, for people."""
        sample = self.sample
        facts = [
            ("sample", f"{sample['kind']} {sample['hash']}"),
            ("reward", _reward_text(sample)),
            ("parts", _parts_text(sample)),
            ("in filtered", self.filtered),
            ("in unique", self.unique),
            ("split", sample["split"]),
            ("model", sample["model"]),
            ("environment", sample["environment"]),
            ("example", None if sample["example_id"] is None else str(sample["example_id"])),
            ("ended", _joined(sample["finish_reason"], sample["error"])),
            ("usage", _usage_text(sample)),
            *(("length", _length_text(each)) for each in self.lengths),
            *(("source", _source_text(each)) for each in self.sources),
        ]
        is_rollout = sample["kind"] == "rollout"
        return [
            (name, value)
            for name, value in facts
            if value and (is_rollout or name not in ("in filtered", "in unique"))
        ]

    def other_lines(self) -> list[str]:
        """A line for each of the first samples of the same name."""
        lines = [_line(each) for each in self.others[:_LISTED]]
        hidden = len(self.others) - len(lines)
        return [*lines, f"... and {hidden:,} more"] if hidden else lines

    @property
    def problem(self) -> str | None:
        """The PyTorch source of the problem, else the prompt as text; None if the row has neither."""
        return self._text(fields.python_code) or self._text(_prompt_text)

    @property
    def kernel(self) -> str | None:
        """The reference kernel of the problem; None if the row has none."""
        return self._text(fields.triton_code)

    @property
    def completion(self) -> str | None:
        """The last text of the assistant less thoughts; None if there is none."""
        return self._text(fields.completion)

    @property
    def reasoning(self) -> str | None:
        """All reasoning; None if there is none."""
        return self._text(fields.reasoning)

    def _text(self, read: Callable[[fields.Row], str | None]) -> str | None:
        try:
            return read(stored_row(self.sample["row"], self.sample["field_map"]))
        except BadRow:  # it was stored under rules that today's no longer read; --raw shows it
            return None


def show(database: Path, choice: Choice) -> Shown:
    """Returns the chosen sample; the store is only read.

    Raises StoreError if there is no store, ConfigError if no sample or several match.
    """
    with Store.read(database) as store:
        return Shown.read(store, _chosen(store, choice))


def short_hash(sample_hash: str) -> str:
    """A hash as people see it: what `kbetl show` finds it by.

    >>> short_hash("s1:0123456789abcdef")
    '01234567'
    """
    return sample_hash.removeprefix(HASH_PREFIX)[:SHORT]


def _chosen(store: Store, choice: Choice) -> str:
    named = None if choice.name is None else _named(store, choice.name)
    if named is not None and not choice.is_next:
        return str(named["hash"])
    kinds = [named["kind"]] if named else [row[0] for row in store.rows("show/shown_kinds")]
    (min_reward,) = store.rows("show/shown_standing", {"hash": None})[0][:1]
    conditions = [] if choice.where is None else [choice.where]
    with store.guarded() as connection:
        hashes = select_samples(connection, kinds, conditions, {"min_reward": min_reward}, with_prompts=True)
        found = _pick(hashes, choice, named)
    if found is None:
        raise ConfigError(_why_none(store.path, choice, has_samples=bool(kinds)))
    return found


def _pick(hashes: Iterator[str], choice: Choice, named: ReportRow | None) -> str | None:
    """The first, a random one, or the one after `named`; None if there is none."""
    if choice.is_random:
        found = None
        for number, sample_hash in enumerate(hashes, 1):  # each is kept with the same chance, in no memory
            if random.randrange(number) == 0:
                found = sample_hash
        return found
    if named is not None:
        for sample_hash in hashes:
            if sample_hash == named["hash"]:
                break
    return next(hashes, None)


def _why_none(path: Path, choice: Choice, *, has_samples: bool) -> str:
    if not has_samples:
        return f"{path} holds no sample; `{command_line(path, 'ingest')}` reads some"
    if choice.is_next:
        return f"no sample comes after {choice.name!r}" + (f" where {choice.where}" if choice.where else "")
    return f"no sample of {path} satisfies where {choice.where!r}"


def _named(store: Store, name: str) -> ReportRow:
    """The sample of a hash or its beginning, else the best one of a module name."""
    if _HASH.fullmatch(name):
        first = HASH_PREFIX + name.removeprefix(HASH_PREFIX)
        bounds = {"first": first, "last": f"{first}g", "limit": _LISTED + 1}
        found = store.named_rows("show/shown_by_hash", bounds)
        if len(found) == 1:
            return found[0]
        if found:
            more = " and more" if len(found) > _LISTED else ""
            listed = "".join(f"\n  {_line(each, short=16)}" for each in found[:_LISTED])
            raise ConfigError(f"several hashes begin with {name}{more}; give more of it:{listed}")
    found = store.named_rows("show/shown_by_name", {"name": name})
    if not found:
        raise ConfigError(
            f"no sample has the hash or the module name {name!r}; names are in: "
            + command_line(store.path, "query", "select module_name, hash from samples limit 20", "-t")
        )
    return found[0]


def _prompt_text(row: fields.Row) -> str | None:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(filter(None, map(fields.text_of, fields.messages(row, "prompt")))) or None


def _line(sample: ReportRow, short: int = SHORT) -> str:
    reward = "" if sample["reward"] is None else f"  reward {sample['reward']:g}"
    digits = sample["hash"].removeprefix(HASH_PREFIX)[:short]
    return f"{digits}  {sample['kind']}{reward}  {sample['module_name'] or ''}".rstrip()


def _datasets(store: Store, sample: ReportRow) -> tuple[str, str]:
    """Whether a sample is in `filtered` and in `unique`, and why not."""
    why_not = _why_not_filtered(store, sample)
    if why_not is not None:
        return _answer(why_not), _answer("it is not in filtered")
    return _answer(None), _answer(_why_not_unique(store, sample))


def _answer(why_not: str | None) -> str:
    return "yes" if why_not is None else f"no, because {why_not}"


def _why_not_filtered(store: Store, sample: ReportRow) -> str | None:
    """Why a rollout is not in `filtered`; None if it is."""
    if sample["kind"] != "rollout":
        return "it is no rollout"
    (standing,) = store.named_rows("show/shown_standing", {"hash": sample["hash"]})
    if sample["reward"] is None:
        return "it has no reward"
    if not sample["reward"] > standing["min_reward"]:
        return f"its reward {sample['reward']:g} is not above {standing['min_reward']:g}"
    if standing["status"] is None:
        return f"it is not rated; see: {command_line(store.path, 'status')}"
    if standing["status"] != "ok":
        return f"its rating is {standing['status']}: {standing['reason']}"
    return None


def _why_not_unique(store: Store, sample: ReportRow) -> str | None:
    """Why a row of `filtered` is not in `unique`; None if it is."""
    given = {"hash": sample["hash"], "name": sample["module_name"]}
    best = store.named_rows("show/shown_best", given)[0]
    if best["hash"] == sample["hash"]:
        return None
    if best["reward"] == sample["reward"]:
        return f"{short_hash(best['hash'])} has the same reward and came first"
    return f"{best['reward']:g} of {short_hash(best['hash'])} beats {sample['reward']:g}"


def _reward_text(sample: ReportRow) -> str:
    if sample["reward"] is None:
        return ""
    is_newer = sample["row_reward"] is not None and sample["row_reward"] != sample["reward"]
    return f"{sample['reward']:g}" + (f" (its row says {sample['row_reward']:g})" if is_newer else "")


def _parts_text(sample: ReportRow) -> str:
    """`correct 1 (weight 0.5), ...`, then metrics."""
    rewards = _from_json(sample["rewards"]) or {}
    metrics = _from_json(sample["metrics"]) or {}
    parts = [f"{name} {_part(value)}" for name, value in rewards.items()]
    return ", ".join([*parts, *(f"{name} {_part(value)}" for name, value in metrics.items())])


def _part(value: Any) -> str:
    if isinstance(value, dict):
        weight = "" if value.get("weight") is None else f" (weight {value['weight']})"
        return f"{value.get('score')}{weight}"
    return str(value)


def _usage_text(sample: ReportRow) -> str:
    names = ("prompt", "completion", "reasoning")
    counts = [(name, sample[f"{name}_tokens"]) for name in names]
    return ", ".join(f"{count:,} {name} tokens" for name, count in counts if count is not None)


def _length_text(row: ReportRow) -> str:
    if row["refusal"] is not None:
        return f"{row['tokenizer']}: refused, {row['refusal']}"
    return (
        f"{row['total_tokens']:,} tokens, {row['completion_tokens']:,} of them answer, by {row['tokenizer']}"
    )


def _source_text(row: ReportRow) -> str:
    revision = f" at {row['revision'][:SHORT]}" if row["revision"] else ""
    return f"{row['source']}{revision}, row {row['position'] + 1:,}"


def _joined(*values: Any) -> str:
    return ", ".join(str(value) for value in values if value is not None)


def _from_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)

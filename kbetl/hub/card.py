"""Makes the card of a dataset, as YAML and Markdown, from facts of the store. Pure: no clock, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import Any

import kbetl
from kbetl.dataset.registry import DATASETS
from kbetl.export.formats import FORMATS, METADATA, trainer_entry
from kbetl.hub.card_data import Facts
from kbetl.hub.parquet_files import BuiltFiles
from kbetl.hub.readme import Card
from kbetl.resources import data_path
from kbetl.store import ReportRow
from kbetl.text import inert_markdown, listed

_TAGS = ("code", "gpu", "kernels", "pytorch", "triton", "kbetl")
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_MOST_ENTRIES = 20
_BESIDE = f"Beside the text stand {', '.join(f'`{name}`' for name in METADATA)}"
_REWARD_BUCKETS: Mapping[int | None, str] = {
    None: "none",
    -1: "below 0",
    **{tenths: f"{tenths / 10} to below {(tenths + 1) / 10}" for tenths in range(10)},
    10: "1",
    11: "above 1",
}


def make_card(facts: Facts, built: BuiltFiles) -> Card:
    """Returns the card of a dataset; the same store gives the same card."""
    text = Template(data_path("dataset_card.md").read_text(encoding="utf-8"))
    sections = {
        "title": DATASETS[facts.dataset].title,
        "summary": _summary(facts),
        "format": _section("Format", _format(built)),
        "chosen": _section("How the rows were chosen", _bullets(_chosen(facts, built))),
        "labels": _section("Labels", _labels(facts)),
        "counts": _section("Counts", _counts(facts)),
        "rewards": _section("Rewards", _rewards(facts)),
        "difficulty": _section("Difficulty", _shares("difficulty", facts.difficulties)),
        "lengths": _section("Lengths", _lengths(facts)),
        "splits": _section("Splits", _splits(facts)),
        "sources": _section("Sources", _sources(facts.sources)),
        "licences": _section("Licences", _licences(facts)),
    }
    body = re.sub(r"\n{3,}", "\n\n", text.substitute(sections))
    return Card(_own_keys(facts, built), _default_keys(facts), body)


# front matter


def _own_keys(facts: Facts, built: BuiltFiles) -> dict[str, Any]:
    data_files = [{"split": split, "path": f"data/{split}-*"} for split in built.splits]
    splits = [
        {"name": split, "num_bytes": size.size_bytes, "num_examples": size.rows}
        for split, size in built.splits.items()
    ]
    return {
        "size_categories": [_size(facts.total)],
        "source_datasets": _on_hub(facts) or ["original"],
        "configs": [{"config_name": "default", "data_files": data_files, "default": True}],
        "dataset_info": {
            "features": list(built.features),
            "splits": splits,
            "download_size": sum(file.size_bytes for file in built.files),
            "dataset_size": sum(size.size_bytes for size in built.splits.values()),
        },
    }


def _default_keys(facts: Facts) -> dict[str, Any]:
    on_hub = _on_hub(facts)
    names_licences = any(licence is not None for licence in facts.licences)
    return {
        "pretty_name": DATASETS[facts.dataset].title,
        "language": ["en", "code"],
        "task_categories": ["text-generation"],
        "annotations_creators": ["machine-generated"],
        "tags": list(_TAGS),
        "license": "other",
        "license_name": "per-row" if names_licences else "as-in-the-sources",
        "license_link": f"https://huggingface.co/datasets/{on_hub[0]}" if on_hub else None,
    }


def _on_hub(facts: Facts) -> list[str]:
    return list(dict.fromkeys(row["uri"] for row in facts.sources if row["kind"] == "hub"))


def _size(rows: int) -> str:
    return next((name for bound, name in _SIZES if rows < bound), "n>1M")


# body


def _summary(facts: Facts) -> str:
    rows = ", ".join(f"{split} {number:,}" for split, number in facts.rows.items())
    return f"{facts.total:,} rows ({rows}), made by kbetl {kbetl.__version__}."


def _format(built: BuiltFiles) -> str:
    text = f"`{built.format}`: {FORMATS[built.format].read_by}."
    entry = trainer_entry(built.format, [str(column["name"]) for column in built.features])
    if entry is not None:
        text += (
            "\n\nIts entry in `dataset_info.json`, beside `hf_hub_url` with the name of this dataset:"
            f"\n\n```json\n{json.dumps(entry, indent=2)}\n```"
        )
    if built.left_out.reasons:
        text += f"\n\nLeft out, since this format cannot carry them: {inert_markdown(built.left_out.why())}."
    return text


def _chosen(facts: Facts, built: BuiltFiles) -> Iterable[str]:
    good = f"a reward above {facts.settings['min_reward']}"
    rated = f"{good} and a difficulty that could be read from the answer"
    entry = DATASETS[facts.dataset]
    columns = entry.columns if FORMATS[built.format].columns is None else f"{_BESIDE}."
    yield f"{entry.chosen.format(good=good, rated=rated)} {columns if entry.columns else ''}".rstrip()
    if facts.models:
        named = [
            f"{inert_markdown(name)} ({rows:,})" for name, rows in list(facts.models.items())[:_MOST_ENTRIES]
        ]
        yield f"Models that wrote the rollouts: {listed(named, len(facts.models) - len(named))}."
    for note in facts.notes:
        yield f"{inert_markdown(note)}."


def _labels(facts: Facts) -> str:
    task = facts.task
    if task is None:
        return ""
    system = "none" if task["system"] is None else f"`{task['system']}`"
    return _table(
        ("label", "value"),
        [
            ("task", inert_markdown(task["name"])),
            ("task hash", f"`{task['hash']}`"),
            ("model", inert_markdown(task["model"])),
            ("prompt template, SHA-256", f"`{task['template']}`"),
            ("system prompt, SHA-256", system),
            ("parameters", inert_markdown(task["parameters"])),
        ],
    )


def _counts(facts: Facts) -> str:
    stages = facts.stages
    entry = DATASETS[facts.dataset]
    rows = [
        ("rows read", sum(row["read"] for row in facts.sources)),
        ("rows rejected", sum(row["rejected"] for row in facts.sources)),
        (f"different {entry.kind}s", stages["samples"]),
    ]
    if entry.kind == "rollout":
        rows.append((f"reward above {facts.settings['min_reward']}", stages["meant"]))
    if facts.task is not None:
        rows.append(("asked about", sum(facts.outcomes.values())))
        rows += [(f"answer {status}", number) for status, number in sorted(facts.outcomes.items())]
        rows.append(("not asked about yet", stages["unasked"]))
    if entry.is_grouped:
        rows.append(("rated, with such a reward", stages["filtered"]))
    rows.append(("rows in this dataset", facts.total))
    return _table(("stage", "count"), [(label, f"{number:,}") for label, number in rows], right=(1,))


def _rewards(facts: Facts) -> str:
    if not facts.rewards:
        return ""
    named = {0: "lowest", 50: "median", 100: "highest"}
    points = ", ".join(
        f"{named.get(percentile, f'{percentile} %')} {reward!r}"
        for percentile, reward in facts.rewards.items()
    )
    buckets = {_REWARD_BUCKETS[tenths]: rows for tenths, rows in facts.reward_tenths.items()}
    return f"Percentiles by nearest rank: {points}.\n\n{_shares('reward', buckets)}"


def _shares(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    total = sum(counts.values())
    rows = [(inert_markdown(name), f"{number:,}", f"{number / total:.1%}") for name, number in counts.items()]
    return _table((title, "rows", "share"), rows, right=(1, 2))


def _lengths(facts: Facts) -> str:
    if not facts.lengths:
        return ""
    rows = [
        (
            inert_markdown(_less_its_folder(tokenizer)),
            f"`{template_hash[:15]}`",
            f"{measured:,} of {facts.total:,}",
            *(f"{tokens[percentile]:,}" for percentile in (50, 90, 99, 100)),
        )
        for (tokenizer, template_hash, measured), tokens in facts.lengths.items()
    ]
    head = ("tokenizer", "template", "rows measured", "50 %", "90 %", "99 %", "longest")
    return "In tokens, the chat template rendered; percentiles by nearest rank.\n\n" + _table(
        head, rows, right=range(2, len(head))
    )


def _splits(facts: Facts) -> str:
    if list(facts.rows) == ["train"] and not DATASETS[facts.dataset].is_split:
        return "All rows are in `train`."
    settings = facts.settings
    what, else_by = ("code", "name") if settings["split_by"] == "code" else ("name", "code")
    return (
        f"By the module's {what} (its {else_by} where it has none), with seed {settings['split_seed']} and a "
        f"share of {settings['split_share']} for `validation`: rows of one module's {what} are never on both "
        "sides, and no row changes side when rows are added."
    )


def _sources(sources: Sequence[ReportRow]) -> str:
    rows = [
        (
            inert_markdown(row["uri"] if row["kind"] == "hub" else _less_its_folder(row["name"])),
            row["kind"],
            inert_markdown(row["split"] or "-"),
            f"`{row['revision']}`" if row["revision"] else "-",
            f"{row['read']:,}",
            f"{row['samples']:,}",
        )
        for row in sources
    ]
    head = ("source", "kind", "split", "revision", "rows read", "samples")
    return _table(head, rows, right=(4, 5)) if rows else ""


def _licences(facts: Facts) -> str:
    if all(licence is None for licence in facts.licences):
        return "The rows name no licence; those of the sources apply."
    named = {licence or "none named": rows for licence, rows in facts.licences.items()}
    shown = dict(list(named.items())[:_MOST_ENTRIES])
    rest = sum(list(named.values())[_MOST_ENTRIES:])
    return _shares("licence of the row", {**shown, **({"others": rest} if rest else {})})


def _less_its_folder(name: str) -> str:
    """Returns the last part of a path, so that no folder of this machine is published."""
    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
    return (name.rstrip("/").rpartition("/")[2] or name) if is_path else name


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    is_right = set(right)
    rule = ["---:" if index in is_right else "---" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))

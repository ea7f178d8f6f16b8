"""`kbetl lengths`: what the chat template renders is what is counted, once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, clean_environment
from filling import Filling

from kbetl.errors import BadRow, ConfigError
from kbetl.lengths import Chosen, Report, choose, measure
from kbetl.lengths.chat import Chat
from kbetl.lengths.conversation import conversation_of
from kbetl.lengths.files import find
from kbetl.resources import data_path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

DEMO = data_path("tokenizer")
LINES = data_path("sample.jsonl").read_bytes().splitlines()
ROLLOUTS: list[dict[str, Any]] = [row for line in LINES if "completion" in (row := json.loads(line))]
ALL = Chosen("samples")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Filling]:
    with Filling(tmp_path / "kbetl.db") as filling:
        yield filling


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the demo's tokenizer, with another template."""

    def make(template: str, name: str = "tokenizer") -> Path:
        copy = tmp_path / name
        shutil.copytree(DEMO, copy)
        (copy / "chat_template.jinja").write_text(template, encoding="utf-8")
        return copy

    return make


def tokenizer_of(folder: Path, **options: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **options)


def official(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> int:
    """What the tokenizer itself counts."""
    return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options))


def rollout(*completion: dict[str, Any], prompt: Any = "Do it.", **columns: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": list(completion), "reward": 1.0, **columns}


def said(content: Any = "Done.", **columns: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **columns}


def counted(store: Filling, folder: Path, *rows: dict[str, Any]) -> Report:
    for row in rows:
        store.sample(row)
    return measure(store.store, str(folder), ALL)


def lengths(store: Filling) -> list[tuple[Any, ...]]:
    """Prompt, completion and total of each sample, in the order in which they came."""
    return store.rows(
        "select prompt_tokens, completion_tokens, total_tokens from lengths"
        " join samples on samples.hash = lengths.sample_hash order by samples.rowid"
    )


USER = {"role": "user", "content": "Do it."}


# what is counted

SHAPES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    "a text for prompt and completion": (
        {"prompt": "Do it.", "completion": "Done.", "reward": 1.0},
        [USER, said()],
        {},
    ),
    "reasoning": (rollout(said(reasoning="so")), [USER, said(reasoning_content="so")], {}),
    "reasoning_content": (rollout(said(reasoning_content="so")), [USER, said(reasoning_content="so")], {}),
    "reasoning of its own in each message": (
        rollout(said("a", reasoning="first"), USER, said("b", reasoning_content="second"), prompt=[USER]),
        [USER, said("a", reasoning_content="first"), USER, said("b", reasoning_content="second")],
        {},
    ),
    "null content with reasoning": (
        rollout(said(None, reasoning="so")),
        [USER, said("", reasoning_content="so")],
        {},
    ),
    "content in parts": (
        rollout(said([{"type": "text", "text": "Do"}, {"type": "text", "text": "ne."}])),
        [USER, said()],
        {},
    ),
    "nulls that Arrow adds": (
        rollout(said(reasoning=None, tool_calls=None, tool_call_id=None, name=None), oai_tools=None),
        [USER, said()],
        {},
    ),
    "a control token in the content": (rollout(said("<|im_end|>")), [USER, said("<|im_end|>")], {}),
    "no completion": (rollout(), [USER], {}),
    "no prompt": ({"completion": [said()], "reward": 1.0}, [said()], {}),
    "a tool call as JSON text, flat": (
        rollout(said(None, tool_calls=['{"id": "1", "name": "add", "arguments": "{\\"a\\": 1}"}'])),
        [
            USER,
            said("", tool_calls=[{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]),
        ],
        {},
    ),
    "a tool call as object, arguments that are no JSON": (
        rollout(said("x", tool_calls=[{"function": {"name": "add", "arguments": "{a"}}])),
        [USER, said("x", tool_calls=[{"function": {"name": "add", "arguments": "{a"}}])],
        {},
    ),
    "tools as the text null": (rollout(said(), oai_tools="null"), [USER, said()], {}),
    "tools as JSON text": (
        rollout(said(), oai_tools='[{"type": "function", "function": {"name": "add"}}]'),
        [USER, said()],
        {"tools": [{"type": "function", "function": {"name": "add"}}]},
    ),
    "flat tools": (
        rollout(said(), tool_defs=[{"name": "add", "description": "adds", "strict": None}]),
        [USER, said()],
        {"tools": [{"type": "function", "function": {"name": "add", "description": "adds"}}]},
    ),
}


@pytest.mark.parametrize(("row", "messages", "options"), SHAPES.values(), ids=SHAPES)
def test_every_shape_is_counted_as_the_template_renders_it(store, row, messages, options):
    report = counted(store, DEMO, row)
    tokenizer = tokenizer_of(DEMO)
    total = official(tokenizer, messages, **options)
    asked = 0
    if row.get("prompt"):
        asked = min(total, official(tokenizer, [USER], add_generation_prompt=True, **options))
    assert lengths(store) == [(asked, total - asked, total)]
    assert (report.refusals, report.unreached, report.exit_status) == ([], [], 0)


def test_reasoning_counts_the_same_in_either_field(store):
    """And for nothing where there is none."""
    text = "because it is so " * 20
    counted(
        store, DEMO, rollout(said(reasoning=text)), rollout(said(reasoning_content=text)), rollout(said())
    )
    (first, second, none) = (total for _, _, total in lengths(store))
    assert first == second > none + 20


def test_the_sample_rows_are_counted_as_the_tokenizer_counts_them(store):
    counted(store, DEMO, *ROLLOUTS)
    assert lengths(store) == [expected(tokenizer_of(DEMO), row) for row in ROLLOUTS]


def expected(tokenizer: Any, row: dict[str, Any]) -> tuple[int, int, int]:
    """Prompt, completion and total, by the tokenizer itself; the fields mapped in plain words."""

    def mapped(message: dict[str, Any]) -> dict[str, Any]:
        body = {"role": message["role"], "content": message.get("content") or ""}
        reasoning = message.get("reasoning") or message.get("reasoning_content")
        if reasoning:
            body["reasoning_content"] = reasoning
        calls = [
            json.loads(call) if isinstance(call, str) else call for call in message.get("tool_calls") or []
        ]
        if calls:
            functions = [call.get("function") or call for call in calls]
            body["tool_calls"] = [
                {
                    "type": "function",
                    "function": {"name": each["name"], "arguments": json.loads(each["arguments"])},
                }
                for each in functions
            ]
        return body

    tools = row.get("oai_tools") or row.get("tool_defs") or None
    if isinstance(tools, str):
        tools = json.loads(tools)
    if tools:
        tools = [
            each
            if "function" in each
            else {
                "type": "function",
                "function": {key: value for key, value in each.items() if value is not None},
            }
            for each in tools
        ]
    prompt = [mapped(message) for message in row["prompt"]]
    completion = [mapped(message) for message in row["completion"]]
    total = official(tokenizer, [*prompt, *completion], tools=tools or None)
    asked = min(total, official(tokenizer, prompt, tools=tools or None, add_generation_prompt=True))
    return asked, total - asked, total


@pytest.mark.parametrize(
    "template", ["chat_template_thinking_2507.jinja", "chat_template_hybrid_2025-04.jinja"]
)
def test_counts_are_those_of_the_real_tokenizer(store, shared, tmp_path, template):
    """Qwen3's, for the sample rows and for what real tools wrote, with their reasoning and without it."""
    folder = shared / "data" / "qwen3-tokenizer"
    if template.startswith("chat_template_hybrid"):
        folder = tmp_path / "hybrid"
        shutil.copytree(shared / "data" / "qwen3-tokenizer", folder)
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        config["chat_template"] = (folder / template).read_text(encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    files = sorted((shared / "data" / "rollouts").rglob("results.jsonl"))
    real = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    rows = {store_key(row): row for row in [*ROLLOUTS, *real, *map(without_reasoning, ROLLOUTS)]}
    assert len(rows) > 2 * len(ROLLOUTS)
    hashes = {store.sample(row): row for row in rows.values()}

    report = measure(store.store, str(folder), ALL)

    tokenizer = tokenizer_of(folder)
    found = {row[0]: row[1:] for row in store.rows(
        "select sample_hash, prompt_tokens, completion_tokens, total_tokens from lengths"
    )}  # fmt: skip
    assert report.refusals == []
    assert found == {key: expected(tokenizer, row) for key, row in hashes.items()}


def store_key(row: dict[str, Any]) -> str:
    from kbetl.records import sample_hash

    return sample_hash(row)


def without_reasoning(row: dict[str, Any]) -> dict[str, Any]:
    plain = [
        {key: value for key, value in message.items() if not key.startswith("reasoning")}
        for message in row["completion"]
    ]
    return {**row, "completion": plain}


def test_reasoning_that_real_templates_do_not_know_is_counted(store, shared):
    """`reasoning`, which the Qwen3 template does not read, counts as much as the field that it reads."""
    text = "the sum over rows comes first " * 30
    counted(
        store,
        shared / "data" / "qwen3-tokenizer",
        rollout(said(reasoning=text)),
        rollout(said(reasoning_content=text)),
        rollout(said()),
    )
    (first, second, none) = (total for _, _, total in lengths(store))
    assert first == second > none + 100


@pytest.mark.parametrize(
    "content", ["x", " x", "\n\nx", "  \n x", "", "<think>\n\n</think>\n\nx", "<|im_start|>x", "é\u0301"]
)
def test_where_the_prompt_is_cut_off_nothing_is_counted_twice(shared, content):
    """Texts that a tokenizer could join with the end of the prompt."""
    chat = Chat(find(str(shared / "data" / "qwen3-tokenizer")))
    tokenizer = tokenizer_of(shared / "data" / "qwen3-tokenizer")
    for reasoning in (None, "", content, f"{content} y"):
        row = rollout(said(content, **({} if reasoning is None else {"reasoning_content": reasoning})))
        conversation = conversation_of(row)
        rendered = chat.render(conversation)
        assert rendered.head
        assert chat.agrees(conversation, rendered)
        (tokens,) = chat.count([rendered])
        assert tokens.total == official(tokenizer, [USER, *(each.body for each in conversation.completion)])


def test_the_slow_way_counts_the_same(store):
    chat = Chat(find(str(DEMO)))
    rendered = [chat.render(conversation_of(row)) for row in ROLLOUTS]
    fast = chat.count(rendered)
    chat.go_slowly()
    assert chat.count(rendered) == fast


# what does not reach the rendered text

IGNORES_REASONING = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LAST_REASONING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
)
CUTS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:20] }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("reasoning", ["a long enough thought", "Done", "o", "assistant"])
def test_reasoning_that_the_template_ignores_is_named(store, folder, reasoning):
    """Also where its text stands elsewhere: in the answer, in the frame, in any word."""
    report = counted(store, folder(IGNORES_REASONING), rollout(said(reasoning=reasoning)))
    assert [(fault.what, fault.samples) for fault in report.unreached] == [("completion[0].reasoning", 1)]
    assert store.rows("select unreached from lengths") == [('["completion[0].reasoning"]',)]
    assert (report.advice, report.exit_status) == ([], 3)
    assert len(report.percentiles) == 8


LEFT_OUT: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "reasoning of an earlier turn": (
        LAST_REASONING,
        rollout(said("a", reasoning="first"), USER, said("b", reasoning_content="second")),
        ["completion[0].reasoning"],
    ),
    "the end of a content": (CUTS, rollout(said("x" * 21), prompt=[USER]), ["completion[0].content"]),
    "a text prompt that is cut": (CUTS, rollout(said(), prompt="y" * 21), ["prompt"]),
    "tool calls": (
        IGNORES_REASONING,
        rollout(said("x", tool_calls=[{"function": {"name": "x", "arguments": "{}"}}])),
        ["completion[0].tool_calls[0]"],
    ),
    "tools": (IGNORES_REASONING, rollout(said("add"), oai_tools=[{"name": "add"}]), ["oai_tools[0]"]),
    "a second reasoning": (
        (DEMO / "chat_template.jinja").read_text(encoding="utf-8"),
        rollout(said(reasoning="so", reasoning_content="otherwise")),
        ["completion[0].reasoning_content"],
    ),
    "a refusal and thoughts in other fields": (
        (DEMO / "chat_template.jinja").read_text(encoding="utf-8"),
        rollout(said(refusal="no", thinking="hm", thinking_blocks=[{"thinking": "hm"}])),
        ["completion[0].thinking", "completion[0].refusal", "completion[0].thinking_blocks"],
    ),
    "an image": (
        (DEMO / "chat_template.jinja").read_text(encoding="utf-8"),
        rollout(said(), prompt=[{"role": "user", "content": [{"type": "image_url"}, {"text": "see"}]}]),
        ["prompt[0].content[0]"],
    ),
}


@pytest.mark.parametrize(("template", "row", "names"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_left_out_is_named(store, folder, template, row, names):
    report = counted(store, folder(template), row)
    assert sorted(fault.what for fault in report.unreached) == sorted(names)
    assert (report.advice, report.exit_status) == ([], 3)


@pytest.mark.parametrize(
    "row",
    [
        rollout(said("\n\n a \n", reasoning="\n b \n")),
        rollout(said("<think>\nb\n</think>\n\na")),
        rollout(said("   ", reasoning="  ")),
        rollout(said(reasoning="so", reasoning_content="so")),
        rollout(said("\x7f0\x7f \ue0000\ue000", reasoning="\ue000")),
        rollout(
            said("", tool_calls=[{"function": {"name": "f", "arguments": {"a": ["x\ny", 1, None], "b": {}}}}])
        ),
    ],
    ids=["stripped", "inline", "blank", "twice the same", "private characters", "arguments"],
)
def test_what_the_template_strips_or_spells_anew_is_not_left_out(store, row):
    assert counted(store, DEMO, row).unreached == []


def test_real_templates_leave_out_earlier_reasoning(store, shared):
    """By their design: it is named, for it is what the trainer will not see."""
    row = rollout(said("a", reasoning="first"), USER, said("b", reasoning="second"), prompt=[USER])
    report = counted(store, shared / "data" / "qwen3-tokenizer", row, rollout(said("<think>r</think>a")))
    assert [(fault.what, fault.samples) for fault in report.unreached] == [("completion[0].reasoning", 1)]


# what the template refuses

REFUSES = "{{ raise_exception('turns must alternate') if messages[-1].content == 'bad' }}" + IGNORES_REASONING


def test_a_row_that_the_template_refuses_is_named_counted_and_kept(store, folder):
    """Also by the second run, which counts nothing; the others are measured."""
    made = folder(REFUSES)
    bad = rollout(said("bad"))
    first = counted(store, made, rollout(said("good")), bad)
    second = measure(store.store, str(made), ALL)

    for report, now in ((first, 2), (second, 0)):
        assert [(fault.samples, fault.example) for fault in report.refusals] == [(1, store_key(bad))]
        assert "turns must alternate" in report.refusals[0].what
        assert (report.counts.rollouts, report.counts.measured, report.counts.refused) == (2, 1, 1)
        assert (report.measured_now, report.waiting, report.exit_status) == (now, 0, 3)
        assert report.advice
    assert store.rows(
        "select total_tokens, refusal from lengths where sample_hash = '" + store_key(bad) + "'"
    ) == [(None, first.refusals[0].what)]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"prompt": [], "completion": []}, "neither 'prompt' nor 'completion'"),
    "content of a wrong type": (
        rollout(said(), prompt=[{"role": "user", "content": 7}]),
        "'prompt[0].content' is a number",
    ),
    "tools that are no JSON": (rollout(said(), oai_tools="[oops"), "'oai_tools' is text that is not JSON"),
    "tools that are no list": (rollout(said(), tools={"a": 1}), "'tools' is an object"),
    "a call without a name": (
        rollout(said(tool_calls=[{"id": "1"}])),
        "'completion[0].tool_calls[0]' is a tool call",
    ),
    "an unknown role": (rollout({"role": "robot", "content": "x"}), "no such role: robot"),
    "no role": (rollout({"content": "x"}), "refuses it"),
}


@pytest.mark.parametrize(("row", "reason"), BROKEN.values(), ids=BROKEN)
def test_odd_rows_are_refused_by_name(store, row, reason):
    report = counted(store, DEMO, row)
    assert reason in report.refusals[0].what
    assert (report.counts.measured, report.exit_status) == (0, 3)
    assert (report.percentiles, report.buckets, report.limits, report.advice) == ([], [], [], [])


def test_a_mapping_that_fails_says_which_field():
    with pytest.raises(BadRow, match=r"'completion\[1\]\.tool_calls' is text that is not JSON"):
        conversation_of(rollout(said(), said(tool_calls="{")))


# only what is new


def test_a_second_run_counts_only_what_is_new(store):
    first = counted(store, DEMO, *ROLLOUTS[:3])
    before = store.rows("select * from lengths")
    second = measure(store.store, str(DEMO), ALL)
    third = counted(store, DEMO, ROLLOUTS[3])
    assert [report.measured_now for report in (first, second, third)] == [3, 0, 1]
    assert set(before) < set(store.rows("select * from lengths"))
    assert second.percentiles == first.percentiles


def test_nothing_is_loaded_where_nothing_is_to_count(tmp_path):
    """Neither transformers nor tokenizers are imported by a second run."""
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(LINES))
    code = (
        "import sys; from kbetl.cli import run; status = run(sys.argv[1:]);"
        "print(status, *sorted({'transformers', 'tokenizers', 'jinja2', 'torch', 'rich'} & set(sys.modules)))"
    )

    def last_line(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=clean_environment(HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    assert last_line("ingest", "rows.jsonl") == "0"
    assert last_line("lengths", "--tokenizer", str(DEMO)) == "0 jinja2 tokenizers transformers"
    assert last_line("lengths", "--tokenizer", str(DEMO)) == "0"


def test_another_template_or_vocabulary_is_counted_beside_the_old(store, folder):
    """The same name with other files is another template_hash; the same files elsewhere have the same."""
    made = folder((DEMO / "chat_template.jinja").read_text(encoding="utf-8"))
    first = counted(store, made, ROLLOUTS[0])
    assert first.template_hash == find(str(DEMO)).template_hash
    (made / "chat_template.jinja").write_text(IGNORES_REASONING, encoding="utf-8")
    second = measure(store.store, str(made), ALL)
    (made / "README.md").write_text("not a file that a tokenizer reads", encoding="utf-8")
    third = measure(store.store, str(made), ALL)
    assert second.template_hash != first.template_hash
    assert third.template_hash == second.template_hash
    assert [report.measured_now for report in (first, second, third)] == [1, 1, 0]
    assert store.rows("select count(*) from lengths") == [(2,)]


def test_limit_counts_so_many_and_says_what_is_left(store):
    for row in ROLLOUTS[:5]:
        store.sample(row)
    report = measure(store.store, str(DEMO), ALL, limit=2)
    assert (report.measured_now, report.counts.measured, report.waiting) == (2, 2, 3)
    assert "3 of 5 rollouts are not measured yet" in list(report.left_over())
    assert measure(store.store, str(DEMO), ALL).measured_now == 3


def test_each_run_is_a_run(store):
    counted(store, DEMO, rollout(said()))
    store.module("M")
    measure(store.store, str(DEMO), ALL)
    runs = store.rows(
        "select command, status, counts ->> 'measured_now', counts ->> 'modules' from runs where id > 1"
    )
    assert runs == [("lengths", 0, 1, 0), ("lengths", 0, 0, 1)]


# which samples


def rated(store: Filling) -> dict[str, str]:
    """Two sources with rollouts of the same modules, all rated; gives their hashes."""
    hashes = {name: store.rollout(name[0], reward, name) for name, reward in
              (("A1", 0.9), ("A2", 0.95), ("B1", 0.9), ("B2", 0.9), ("C1", 0.2))}  # fmt: skip
    store.source("one", hashes["A1"], hashes["B1"], hashes["C1"])
    store.source("two", hashes["B2"], hashes["A2"])
    task = store.task()
    for sample in hashes.values():
        store.outcome(sample, task, value="low")
    return hashes


@pytest.mark.parametrize(
    ("dataset", "sources", "names"),
    [
        ("samples", (), {"A1", "A2", "B1", "B2", "C1"}),
        ("filtered", (), {"A1", "A2", "B1", "B2"}),
        ("unique", (), {"A2", "B1"}),
        ("samples", ("one",), {"A1", "B1", "C1"}),
        ("filtered", ("two",), {"A2", "B2"}),
        ("unique", ("one",), {"A1", "B1"}),
        ("unique", ("two",), {"A2", "B2"}),
        ("unique", ("one", "two"), {"A2", "B1"}),
    ],
)
def test_sources_come_before_the_rules_of_a_dataset(store, dataset, sources, names):
    """As if the store held those sources alone."""
    hashes = rated(store)
    report = measure(store.store, str(DEMO), choose(store.store, dataset, sources, None))
    found = {name for (name,) in store.rows("select sample_hash from lengths")}
    assert found == {hashes[name] for name in names}
    assert report.counts.measured == report.measured_now == len(names)


def test_the_report_is_about_the_chosen_alone(store):
    hashes = rated(store)
    measure(store.store, str(DEMO), ALL)
    report = measure(store.store, str(DEMO), Chosen("unique"))
    assert report.measured_now == 0
    assert sum(bucket.samples for bucket in report.buckets) == report.counts.rollouts == 2
    longest = store.rows(
        f"select max(total_tokens) from lengths where sample_hash in ('{hashes['A2']}', '{hashes['B1']}')"
    )[0][0]
    assert report.percentiles[-1].total_tokens == longest


@pytest.mark.parametrize("dataset", ["samples", "filtered", "unique"])
def test_the_report_says_what_the_views_say(store, dataset):
    rated(store)
    for row in ROLLOUTS:
        store.sample(row)
    measure(store.store, str(DEMO), ALL)
    report = measure(store.store, str(DEMO), Chosen(dataset))
    where = f"where dataset = '{dataset}'"
    assert store.rows(
        f"select percentile, total_tokens from length_percentiles {where} order by percentile"
    ) == list(report.percentiles)
    buckets = f"{where} and difficulty = 'all' order by over_tokens"
    assert store.rows(
        f"select over_tokens, up_to_tokens, samples, share from length_buckets {buckets}"
    ) == list(report.buckets)
    columns = "limit_tokens, difficulty, samples, samples_over, share_over, tokens_lost, tokens_padding"
    assert set(store.rows(f"select {columns}, share_padding from length_limits {where}")) == set(
        report.limits
    )
    columns = "percentile, total_tokens, seq_len, samples_over, tokens_lost, tokens_padding, share_padding"
    assert store.rows(f"select {columns} from seq_len_advice {where} order by percentile") == list(
        report.advice
    )


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("unique", Chosen("unique")),
        ("samples", Chosen("samples")),
        ("outputs/filtered_dataset.jsonl", Chosen("filtered")),
        ("./outputs/filtered_dataset-filtered.jsonl", Chosen("unique")),
        ("siro1/kernelbook-glm4_7-evals-unique", Chosen("unique")),
        ("mine/filtered.jsonl", Chosen("filtered")),
        ("two", Chosen("samples", ("two",), (2,))),
    ],
)
def test_dataset_path_means_a_dataset_or_a_source(store, monkeypatch, path, chosen):
    monkeypatch.setenv("FILTERED_DATASET_PATH", "mine/filtered.jsonl")
    rated(store)
    assert choose(store.store, None, (), path) == chosen


def test_options_win_over_dataset_path(store):
    rated(store)
    assert choose(store.store, "samples", (), "unique") == Chosen("samples")
    assert choose(store.store, None, ("one",), "unique") == Chosen("samples", ("one",), (1,))


def test_an_unknown_dataset_path_says_what_to_ingest(store):
    with pytest.raises(ConfigError, match=r"DATASET_PATH=some/rows\.jsonl .* kbetl ingest some/rows\.jsonl"):
        choose(store.store, None, (), "some/rows.jsonl")


# which tokenizer


def hub_cache(home: Path, name: str, revision: str, *, leave_out: str = "") -> Path:
    """A cache of the Hub as its client makes it, with the demo's tokenizer; gives the snapshot."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    shutil.copytree(DEMO, snapshot)
    if leave_out:
        (snapshot / leave_out).unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return snapshot


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", ["some/model", "some/model@main", f"some/model@{COMMIT}"])
def test_a_name_on_the_hub_is_taken_from_the_cache(run, tmp_path, name):
    """Without a question to the Hub; the name is kept as given, with the commit in the report."""
    hub_cache(tmp_path, "some/model", COMMIT)
    run("ingest", "-", input=LINES[-1].decode())
    done = run("lengths", "--tokenizer", name, "--json", env={"HF_HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["tokenizer"], report["revision"], report["measured_now"]) == (name, COMMIT, 1)
    assert report["template_hash"] == find(str(DEMO)).template_hash


@pytest.mark.parametrize("leave_out", ["", "chat_template.jinja", "tokenizer.json"])
def test_what_is_not_wholly_cached_is_one_clear_line(run, tmp_path, leave_out):
    if leave_out:
        hub_cache(tmp_path, "some/model", COMMIT, leave_out=leave_out)
    run("ingest", "-", input=LINES[-1].decode())
    done = run("lengths", "--tokenizer", "some/model", env={"HF_HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "some/model" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "folder" in done.stderr


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/else", "a/b/c", "../x", "two words"])
def test_what_is_neither_folder_nor_name_is_wrong_usage(name):
    with pytest.raises(ConfigError, match="neither a folder nor a name on the Hub"):
        find(name)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no tokenizer in this folder"):
        find(str(tmp_path))


def test_a_tokenizer_without_template_is_refused(store, folder):
    made = folder("")
    (made / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        counted(store, made, rollout(said()))
    assert store.rows("select status from runs where command = 'lengths'") == [(2,)]


@pytest.mark.parametrize("text", ["{", "{}", '{"model": {"type": "Nonsense"}}'])
def test_a_broken_tokenizer_is_one_line(store, folder, text):
    made = folder(IGNORES_REASONING)
    (made / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be loaded") as refused:
        counted(store, made, rollout(said()))
    assert "\n" not in str(refused.value)


def test_code_that_comes_with_a_tokenizer_is_not_run(store, folder):
    made = folder(IGNORES_REASONING)
    config = json.loads((made / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    (made / "evil.py").write_text(f"open({str(made / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        counted(store, made, rollout(said()))
    assert not (made / "ran").exists()


# the command


def test_the_command_shows_figures_and_advice(run):
    """Plain text where nobody watches; what was not measured comes first."""
    run("ingest", "-", input="\n".join(line.decode() for line in LINES))
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "12 modules have no completion and are left out"
    assert lines[1].startswith("samples: 18 of 18 rollouts measured, 18 now, with ")
    assert "            tokens  samples  share" in lines
    assert [line.split()[0] for line in lines if line.startswith("  ") and " % " in line] == [
        "99",
        "99.5",
        "100",
    ]
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


def test_the_command_refuses_advice_with_status_3(run, folder):
    run("ingest", "-", input="\n".join(line.decode() for line in LINES))
    done = run("lengths", "--tokenizer", folder(IGNORES_REASONING))
    assert done.returncode == 3
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("completion[0].reasoning of 16 samples does not reach the rendered text")
    assert second.startswith("completion[0].reasoning_content of 1 sample does not reach")
    assert "advice: the sequence length" not in done.stdout


def test_json_is_the_whole_report(run):
    run("ingest", "-", input="\n".join(line.decode() for line in LINES))
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer", "--json", "-q")
    report = json.loads(done.stdout)
    assert report["counts"]["measured"] == 18
    assert report["counts"]["waiting"] == 0
    assert report["modules"] == 12
    assert [each["percentile"] for each in report["percentiles"]] == [50, 75, 90, 95, 99, 99.5, 99.9, 100]
    assert [each["seq_len"] for each in report["advice"]] == [2048, 2048, 2048]
    assert next(each["limit_tokens"] for each in report["limits"] if each["difficulty"] == "all") == 1024


def test_a_missing_store_is_not_made(run, tmp_path):
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer")
    assert done.returncode == 1
    assert "no store at kbetl.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_dataset_gives_no_figures(run):
    run("ingest", "-", input=LINES[0].decode())
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("samples: 0 of 0 rollouts measured, 0 now")

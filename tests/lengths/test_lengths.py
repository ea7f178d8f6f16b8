"""`kbetl lengths`: what the chat template renders is what is counted, once."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fill_disk import Filling
from lengths_case import ALL, DEMO, IGNORES_REASONING, ROLLOUTS, counted, folder, rollout, said

from kbetl.errors import BadRow, ConfigError
from kbetl.lengths import measure
from kbetl.lengths.tokenizer import ChatTokenizer
from kbetl.lengths.tokenizer_files import find
from kbetl.records import content_hash
from kbetl.samples import fields
from kbetl.samples.conversation import MAPPING_VERSION, conversation_of

__all__ = ["folder"]

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def tokenizer_of(folder: Path, **options: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **options)


def official(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> int:
    """What the tokenizer itself counts."""
    return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options))


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
    "null content with reasoning and a call": (
        rollout(said(None, reasoning="so", tool_calls=[{"function": {"name": "add", "arguments": ""}}])),
        [
            USER,
            said(
                "",
                reasoning_content="so",
                tool_calls=[{"type": "function", "function": {"name": "add", "arguments": {}}}],
            ),
        ],
        {},
    ),
    "a thinking part": (
        rollout(said([{"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}, "Done."])),
        [USER, said(reasoning_content="so")],
        {},
    ),
    "details of reasoning": (
        rollout(said(reasoning_details=[{"type": "reasoning.text", "text": "so"}])),
        [USER, said(reasoning_content="so")],
        {},
    ),
    "a thought in the text": (
        rollout(said("<think>so</think>Done.")),
        [USER, said(reasoning_content="so")],
        {},
    ),
    "turns of ShareGPT": (
        {
            "prompt": [{"from": "human", "value": "Do it."}],
            "completion": [{"from": "gpt", "value": "Done."}],
            "reward": 1.0,
        },
        [USER, said()],
        {},
    ),
    "tools in two fields": (
        rollout(said(), oai_tools=[{"name": "old"}], tools=[{"name": "add"}]),
        [USER, said()],
        {"tools": [{"type": "function", "function": {"name": "add"}}]},
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
    "a tool call as JSON text, flat": (
        rollout(said(None, tool_calls=['{"id": "1", "name": "add", "arguments": "{\\"a\\": 1}"}'])),
        [
            USER,
            said("", tool_calls=[{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]),
        ],
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
    steps = row.get("trajectory") or []
    for message, step in zip(
        [each for each in completion if each["role"] == "assistant"], steps, strict=False
    ):
        response = step["response"]  # verifiers 0.1.10 to 0.1.13 keep the reasoning there alone
        said = response["choices"][0]["message"] if response.get("choices") else response["message"]
        reasoning = said.get("reasoning_content") or said.get("reasoning")
        if reasoning:
            message.setdefault("reasoning_content", reasoning)
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
    assert {fault.what for fault in report.refusals} == {NO_ANSWER}
    nothing = (None, None, None)
    assert found == {
        key: expected(tokenizer, row) if fields.completion(row) else nothing for key, row in hashes.items()
    }


NO_ANSWER = "no assistant message with text or tool calls in 'completion'"


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


@cache
def loaded(folder: Path) -> tuple[ChatTokenizer, Any]:
    """A tokenizer as kbetl loads it, and as `tokenizer_of` does."""
    return ChatTokenizer(find(str(folder))), tokenizer_of(folder)


@pytest.mark.parametrize(
    "content", ["x", " x", "\n\nx", "  \n x", "<think>\n\n</think>\n\nx", "<|im_start|>x", "é\u0301"]
)
def test_where_the_prompt_is_cut_off_nothing_is_counted_twice(shared, content):
    """Texts that a tokenizer could join with the end of the prompt."""
    chat, tokenizer = loaded(shared / "data" / "qwen3-tokenizer")
    for reasoning in (None, "", content, f"{content} y"):
        row = rollout(said(content, **({} if reasoning is None else {"reasoning_content": reasoning})))
        conversation = conversation_of(row)
        rendered = chat.render(conversation)
        assert rendered.head
        assert chat.matches_reference(conversation, rendered)
        (tokens,) = chat.count([rendered])
        assert tokens.total == official(
            tokenizer, [USER, *(each.body(parsed=True) for each in conversation.completion)]
        )


def test_the_slow_way_counts_the_same(store):
    chat = ChatTokenizer(find(str(DEMO)))
    rendered = [chat.render(conversation_of(row)) for row in ROLLOUTS]
    fast = chat.count(rendered)
    chat.use_reference()
    assert chat.count(rendered) == fast


# what does not reach the rendered text

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
        rollout(said(refusal="no", thinking="hm", thinking_blocks=[{"thinking": "so"}])),
        ["completion[0].refusal", "completion[0].thinking"],
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

    for report, now, status in ((first, 2, 3), (second, 0, 0)):
        assert [(fault.samples, fault.example) for fault in report.refusals] == [(1, store_key(bad))]
        assert "turns must alternate" in report.refusals[0].what
        assert (report.counts.rollouts, report.counts.measured, report.counts.refused) == (2, 1, 1)
        assert (report.measured_now, report.waiting, report.exit_status) == (now, 0, status)
        assert report.advice
    assert store.rows(
        "select total_tokens, refusal from lengths where sample_hash = '" + store_key(bad) + "'"
    ) == [(None, first.refusals[0].what)]


CONFIG = json.loads((DEMO / "tokenizer_config.json").read_text(encoding="utf-8"))
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
HOSTILE: dict[str, tuple[Any, str]] = {
    "named templates, none default": (
        {**CONFIG, "chat_template": [{"name": name, "template": TEMPLATE} for name in ("tool_use", "rag")]},
        "called tool_use, rag and none called default",
    ),
    "a template that is a number": ({**CONFIG, "chat_template": 5}, "cannot be loaded|no text"),
    "a list": ([], "cannot be loaded"),
    "a class that is a list": ({"tokenizer_class": ["x"], "chat_template": TEMPLATE}, "cannot be loaded"),
    "tokens that are numbers": (
        {**CONFIG, "added_tokens_decoder": {"0": 7}, "chat_template": TEMPLATE},
        "cannot be loaded",
    ),
    "a template without an end": (
        {
            **CONFIG,
            "chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        },
        "did not end within",
    ),
}


@pytest.mark.parametrize(("config", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_tokenizer_from_elsewhere_is_refused_in_words(store, tmp_path, monkeypatch, config, words):
    """Once, about the tokenizer and not of each row; nothing is stored."""
    monkeypatch.setattr("kbetl.lengths.tokenizer.TEMPLATE_TIMEOUT_S", 1)
    folder = tmp_path / "hostile"
    shutil.copytree(DEMO, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        counted(store, folder, rollout(said()), rollout(said("b")))
    assert store.rows("select count(*) from lengths") == [(0,)]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"prompt": [], "completion": []}, NO_ANSWER),
    "no completion": (rollout(), NO_ANSWER),
    "no prompt": ({"completion": [said()], "reward": 1.0}, "no turn of the user first"),
    "reasoning alone": (rollout(said(None, reasoning="so")), NO_ANSWER),
    "a thought without an end": (rollout(said("<think>so")), "<think> without its end"),
    "arguments that are no JSON": (
        rollout(said("x", tool_calls=[{"function": {"name": "add", "arguments": "{a"}}])),
        "the arguments of 'completion[0].tool_calls[0]' are not JSON",
    ),
    "two answers in a row": (rollout(said("a"), said("b")), "two turns of the assistant in a row"),
    "a last word of the user": (rollout(said("a"), USER), "the last turn is the user's"),
    "content of a wrong type": (
        rollout(said(), prompt=[{"role": "user", "content": 7}]),
        "'prompt[0].content' is a number",
    ),
    "tools that are no JSON": (rollout(said(), oai_tools="[oops"), "'oai_tools' is text that is not JSON"),
    "tools that are no list": (rollout(said(), tools={"a": 1}), "'tools' is an object"),
    "a call without a name": (
        rollout(said(tool_calls=[{"id": "1"}])),
        "'completion[0].tool_calls[0]' names no function",
    ),
    "an unknown role": (rollout({"role": "robot", "content": "x"}), 'has role "robot"; trainers know'),
    "no role": (rollout({"content": "x"}), "has role null; trainers know"),
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


MAPPED = (
    rollout(said("a", reasoning="r"), USER, said([{"type": "text", "text": "b"}], reasoning_content="s")),
    {"prompt": "Do it.", "completion": "c", "reasoning": "beside"},
    rollout(said(None, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}])),
    rollout(said("d"), oai_tools='[{"name": "f", "description": null}]'),
    rollout(said("e", thinking="t", refusal="no"), USER, said([{"type": "image"}])),
    rollout(said("<think>v</think>h"), {"from": "human", "value": "w"}, said("i", reasoning_details=["j"])),
    rollout(said("g"), trajectory=[{"response": {"message": {"content": "g", "reasoning_content": "u"}}}]),
)
"""A row for each rule by which fields are mapped."""


def test_rules_that_map_fields_have_a_version():
    """Where this fails, counts change: step MAPPING_VERSION too, or old and new ones mix in one report."""
    found = content_hash("test", {"mapped": [asdict(conversation_of(row)) for row in MAPPED]})
    assert (MAPPING_VERSION, found) == (
        3,
        "test:8d57e1c54d78fb09f147cd477790dd7c4d7208e2a65c3b5ff44975415b3a55ab",
    )

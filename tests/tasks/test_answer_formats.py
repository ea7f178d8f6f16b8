"""How answers are read: every status, and never a value that the answer does not hold for certain."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbetl.records import Completion, ParsedAnswer
from kbetl.samples.messages import split_thoughts
from kbetl.tasks import AnswerFormat, Block, Json, Label, Number, Text, load_task, read_answer

RATING = Label("difficulty", ("low", "medium", "high"))
SCORE = Number("score", 0, 10)
SPECIFICATION = Text("specification")
KERNEL = Block("BEGIN_PYTHON", "END_PYTHON")
LEVEL = Json(
    {
        "type": "object",
        "required": ["level"],
        "properties": {"level": {"enum": ["low", "high"]}, "why": {"type": ["string", "null"]}},
    }
)


def completion(content: str | None, **others: str | None) -> Completion:
    return Completion(response="", host="example.org", latency_ms=1.0, content=content, **others)  # type: ignore[arg-type]


def read(reader: AnswerFormat, content: str) -> ParsedAnswer:
    return read_answer(reader, completion(content, finish_reason="stop"))


# Before any reader

GOOD = "<difficulty>low</difficulty>"


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        (completion(GOOD), ParsedAnswer("ok", "low")),
        (completion(GOOD, finish_reason="stop"), ParsedAnswer("ok", "low")),
        (completion(GOOD, finish_reason="tool_calls"), ParsedAnswer("ok", "low")),
        (completion(GOOD, refusal=" "), ParsedAnswer("ok", "low")),
        (completion(None, fault="cut JSON"), ParsedAnswer("failed", None, "cut JSON")),
        (
            completion(GOOD, finish_reason="length"),
            ParsedAnswer("truncated", None, "cut off at the limit of output tokens (finish_reason length)"),
        ),
        (
            completion(None, finish_reason="MAX_TOKENS", reasoning="so long"),
            ParsedAnswer(
                "truncated", None, "cut off at the limit of output tokens (finish_reason MAX_TOKENS)"
            ),
        ),
        (
            completion(GOOD, finish_reason="stop", refusal="I can't\x1b[0m"),
            ParsedAnswer("refused", None, "the model declined: I can't\\x1b[0m"),
        ),
        (
            completion(GOOD, finish_reason="content_filter"),
            ParsedAnswer("refused", None, "the model declined (finish_reason content_filter)"),
        ),
        (
            completion(GOOD, finish_reason="error"),
            ParsedAnswer("failed", None, "the server gave up on the answer (finish_reason error)"),
        ),
        (
            completion(GOOD, finish_reason="abort"),
            ParsedAnswer("failed", None, "the server gave up on the answer (finish_reason abort)"),
        ),
        (completion(None), ParsedAnswer("unparsed", None, "the answer is empty")),
        (completion(" \n"), ParsedAnswer("unparsed", None, "the answer is empty")),
        (
            completion("", reasoning=GOOD),
            ParsedAnswer("unparsed", None, "the answer is empty (reasoning only)"),
        ),
        (
            completion(f"<think>{GOOD}</think>\n"),
            ParsedAnswer("unparsed", None, "the answer is empty outside its thoughts"),
        ),
    ],
)
def test_status_is_settled_before_the_text_is_read(answer: Completion, reading: ParsedAnswer) -> None:
    assert read_answer(RATING, answer) == reading
    assert load_task("difficulty").read(answer) == reading


@pytest.mark.parametrize(
    ("finish_reason", "status"),
    [
        (None, "ok"),
        ("", "ok"),
        ("EOS", "ok"),
        ("end_turn", "ok"),
        ("model_length", "truncated"),
        ("MAX_TOKENS", "truncated"),
        ("SAFETY", "refused"),
        ("sensitive", "refused"),
        ("network_error", "failed"),
        ("insufficient_system_resource", "failed"),
        ("banana", "unparsed"),
    ],
)
def test_how_an_answer_ended_settles_whether_its_value_counts(finish_reason, status) -> None:
    """A word that nobody knows is doubt: the value may be half of what was meant."""
    reading = read_answer(RATING, completion(GOOD, finish_reason=finish_reason))
    assert reading.status == status
    assert (reading.value == "low") == (status == "ok")


# Labels


@pytest.mark.parametrize(
    "content",
    [
        "<difficulty>high</difficulty>",
        "<difficulty> High\n</difficulty>",
        "<DIFFICULTY>HIGH</Difficulty>",
        "< difficulty >high</ difficulty >",
        "<difficulty>`high`</difficulty>",
        "<difficulty>**High.**</difficulty>",
        "<difficulty>**high**.</difficulty>",
        '<difficulty>"high"</difficulty>',
        "<difficulty>\u201chigh\u201d</difficulty>",
        "<difficulty>\n```text\nhigh\n```\n</difficulty>",
        "```xml\n<difficulty>high</difficulty>\n```",
        "**<difficulty>high</difficulty>**",
        "It is not low, nor medium. <difficulty>high</difficulty> Low is for copies.",
        "<difficulty>high</difficulty>\n<difficulty>HIGH</difficulty>",
        "<think>perhaps <difficulty>low</difficulty></think><difficulty>high</difficulty>",
        "<THINK>\n<difficulty>low</difficulty>\n</THINK>\n<difficulty>high</difficulty>",
        "<thinking><difficulty>low</difficulty></thinking><difficulty>high</difficulty>",
        "<difficulty>low</difficulty> or so</think><difficulty>high</difficulty>",
        "<think>a <think>b</think> <difficulty>low</difficulty></think><difficulty>high</difficulty>",
        "<think>a</think> <difficulty>low</difficulty></think><difficulty>high</difficulty>",
        "<difficulty>high</difficulty><think>or <difficulty>low</difficulty>",
        "\x00\x1b[31m<difficulty>high</difficulty>\ud800",
        "Format: <difficulty>...</difficulty>. <difficulty>high</difficulty>",
        "<difficulty>high</difficulty> (as <difficulty> \u2026 </difficulty> asks)",
        "[THINK]<difficulty>low</difficulty>[/THINK]<difficulty>high</difficulty>",
        "<|channel|>analysis<|message|><difficulty>low</difficulty><|end|><|start|>assistant<|channel|>final"
        "<|message|><difficulty>high</difficulty>",
    ],
)
def test_a_certain_rating_is_read(content: str) -> None:
    assert read(RATING, content) == ParsedAnswer("ok", "high")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("high", "no <difficulty> tag"),
        ("**High.**", "no <difficulty> tag"),
        ("Difficulty: high", "no <difficulty> tag"),
        ("I'm sorry, I can't help with that.", "no <difficulty> tag"),
        ("<rating>high</rating>", "no <difficulty> tag"),
        ("<difficulty level='x'>high</difficulty>", "a </difficulty> tag without <difficulty> before it"),
        ("&lt;difficulty&gt;high&lt;/difficulty&gt;", "no <difficulty> tag"),
        ("<difficulty>high", "the <difficulty> tag is not closed"),
        ("high</difficulty>", "a </difficulty> tag without <difficulty> before it"),
        ("<difficulty>low <difficulty>high</difficulty>", "a <difficulty> tag inside <difficulty>"),
        ("<difficulty><difficulty>high</difficulty></difficulty>", "a <difficulty> tag inside <difficulty>"),
        ("<difficulty>low</difficulty><difficulty>high", "the <difficulty> tag is not closed"),
        ("<difficulty></difficulty>", "<difficulty> is empty"),
        ("<difficulty>low</difficulty> <difficulty>high</difficulty>", "two different ratings: low, high"),
        (
            "<difficulty>low</difficulty><difficulty>high</difficulty><difficulty>medium</difficulty>",
            "3 different ratings: low, high, medium",
        ),
        (
            "<difficulty>low|medium|high</difficulty>",
            "<difficulty> holds 'low|medium|high', not one of low, medium, high",
        ),
        (
            "<difficulty>...</difficulty> or <difficulty>\u2026</difficulty>",
            "<difficulty> holds '...', not one of low, medium, high",
        ),
        (
            "<difficulty>...</difficulty> <difficulty>low</difficulty> <difficulty>high</difficulty>",
            "two different ratings: low, high",
        ),
        ("<difficulty>...</difficulty>", "<difficulty> holds '...', not one of low, medium, high"),
        (
            "<difficulty>very high</difficulty>",
            "<difficulty> holds 'very high', not one of low, medium, high",
        ),
        ("<difficulty>med</difficulty>", "<difficulty> holds 'med', not one of low, medium, high"),
        ("<difficulty>3</difficulty>", "<difficulty> holds '3', not one of low, medium, high"),
        (
            "<difficulty>high\x1b[0m\n\ud800</difficulty>",
            "<difficulty> holds 'high\\x1b[0m\\n\\ud800', not one of low, medium, high",
        ),
        ("<think>hm</think> high", "no <difficulty> tag outside its thoughts"),
        ("<think><difficulty>high</difficulty>", "the answer is empty outside its thoughts"),
        ("So <think>hm <difficulty>high</difficulty>", "no <difficulty> tag outside its thoughts"),
        (
            "<think>a <think> b</think><difficulty>high</difficulty>",
            "the answer is empty outside its thoughts",
        ),
        (
            "<diff<think></think>iculty>high</difficulty>",
            "a </difficulty> tag without <difficulty> before it",
        ),
    ],
)
def test_a_rating_that_is_not_certain_is_unparsed(content: str, reason: str) -> None:
    assert read(RATING, content) == ParsedAnswer("unparsed", None, reason)


def test_a_reason_shows_only_the_beginning_of_a_long_value() -> None:
    reason = read(RATING, f"<difficulty>{'x' * 1_000_000}</difficulty>").reason
    assert reason == f"<difficulty> holds '{'x' * 60}'..., not one of low, medium, high"


def test_labels_keep_the_tasks_own_spelling_and_blanks_do_not_matter() -> None:
    reader = Label("fit", ("Does Not Fit.", "v1.5"))
    assert read(reader, "<fit>does  not\nfit</fit>") == ParsedAnswer("ok", "Does Not Fit.")
    assert read(reader, "<fit>V1.5</fit>") == ParsedAnswer("ok", "v1.5")


# Numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", "7"),
        (" 7.50 ", "7.5"),
        ("**7.0**", "7"),
        ("+07", "7"),
        ("0", "0"),
        ("-0.0", "0"),
        ("0.050", "0.05"),
        ("10.000", "10"),
        ("10", "10"),
        ("9.99999999999999999999", "9.99999999999999999999"),
    ],
)
def test_a_number_is_stored_as_its_shortest_text(text: str, value: str) -> None:
    assert read(SCORE, f"<score>{text}</score>") == ParsedAnswer("ok", value)


@pytest.mark.parametrize(
    "text", ["seven", "7/10", "7,5", "7.", ".5", "1e1", "nan", "inf", "7 8", "\u0667", "0x7", "1" * 41]
)
def test_what_is_not_plainly_a_number_is_unparsed(text: str) -> None:
    reading = read(SCORE, f"<score>{text}</score>")
    assert reading.status == "unparsed"
    assert reading.reason == f"<score> holds '{text}', not a number"


@pytest.mark.parametrize("text", ["-1", "11", "10.00000000000000000001", "-0.000000000000000000001"])
def test_a_number_out_of_range_is_unparsed(text: str) -> None:
    assert (
        read(SCORE, f"<score>{text}</score>").reason == f"<score> holds {text}, which is not within 0 to 10"
    )


def test_the_same_number_twice_is_one_and_two_are_none() -> None:
    assert read(SCORE, "<score>7</score> <score>7.0</score>") == ParsedAnswer("ok", "7")
    assert read(SCORE, "<score>7</score> <score>8</score>").reason == "two different numbers: 7, 8"


def test_a_range_of_fractions_is_exact() -> None:
    assert read(Number("p", 0.1, 0.3), "<p>0.3</p>") == ParsedAnswer("ok", "0.3")
    assert read(Number("p", 0.1, 0.3), "<p>0.1</p>") == ParsedAnswer("ok", "0.1")
    assert read(Number("p", 0.1, 0.3), "<p>0.30000000000000001</p>").status == "unparsed"


# Free text


def test_free_text_is_stripped_and_otherwise_untouched() -> None:
    text = "**Overview**\n\n```python\nclass A: ...\n```\nUse `<b>` and </i>; {{ x }}\x00\x1b[0m `end`"
    assert read(SPECIFICATION, f"Here:\n<specification>\n{text}\n</specification>\nDone.") == ParsedAnswer(
        "ok", text
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("A fine module.", "no <specification> tag"),
        ("<specification> \n</specification>", "<specification> is empty"),
        ("<specification>\n...\n</specification>", "<specification> holds '...', no words"),
        ("<specification>text", "the <specification> tag is not closed"),
        (
            "<specification>one </specification> two</specification>",
            "a </specification> tag without <specification> before it",
        ),
        (
            "<specification>one <specification>two</specification></specification>",
            "a <specification> tag inside <specification>",
        ),
        ("<specification>a</specification><specification>b</specification>", "two different texts"),
        (
            "<specification>a\ud800</specification>",
            "<specification> holds a lone surrogate: not Unicode text",
        ),
    ],
)
def test_free_text_that_is_not_certain_is_unparsed(content: str, reason: str) -> None:
    assert read(SPECIFICATION, content) == ParsedAnswer("unparsed", None, reason)


def test_the_same_free_text_twice_is_one() -> None:
    content = "<specification>a</specification> <specification>\na\n</specification>"
    assert read(SPECIFICATION, content) == ParsedAnswer("ok", "a")


# JSON


@pytest.mark.parametrize(
    "content",
    [
        '{"why": null, "level": "low"}',
        '\n{ "level" : "low",\n "why" : null }\n',
        '```json\n{"level": "low", "why": null}\n```',
        'Here {x} it is, {1, 2}: {"level": "low", "why": null}. Done.',
        'So:\n```json\n{"level": "low", "why": null}\n```\nas asked.',
        '{"level": "low", "why": null}\n```\n{"why": null, "level": "low"}\n```',
        '<think>{"level": "high"}</think>{"level": "low", "why": null}',
        '{"level": "high"}</think>{"level": "low", "why": null}',
    ],
)
def test_a_certain_json_object_is_read(content: str) -> None:
    assert read(LEVEL, content) == ParsedAnswer("ok", '{"level":"low","why":null}')


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("low", "no JSON object in the answer"),
        ("{level: low}", "no JSON object in the answer"),
        ('{"level": "low"} {"level": "high"}', "2 different JSON values"),
        ('{"level": "low"}\n```\n{"level": "high"}\n```', "2 different JSON values"),
        (
            '{"level": "low", "level": "low"}',
            'the JSON cannot be read: the key "level" stands twice in one object',
        ),
        (
            '```\n{"level": "low", "level": "high"}\n```',
            'the JSON cannot be read: the key "level" stands twice in one object',
        ),
        ('{"level": "medium"}', "$.level: 'medium' is not one of ['low', 'high']"),
        ('{"why": "so"}', "$: 'level' is a required property"),
        ("[1]", "$: [1] is not of type 'object'"),
        (
            'So: [{"level": "low"}]',
            "the JSON cannot be read: an object stands in a list that is not the whole answer",
        ),
    ],
)
def test_json_that_is_not_certain_is_unparsed(content: str, reason: str) -> None:
    assert read(LEVEL, content) == ParsedAnswer("unparsed", None, reason)


@pytest.mark.parametrize(
    "content",
    [
        '{"level": "low"',
        '{"level": "low',
        '{"level": "low\\',
        '{"level": "low", "x": NaN}',
        '{"level": "low", "x": 1e999}',
        '{"level": "low", "x": "\\ud800"}',
        '{"level": low} so {"level": "low"}',
        '{"level": "low", "x": ' + "[" * 300 + "]" * 300 + "}",
    ],
)
def test_json_that_is_broken_is_unparsed(content: str) -> None:
    reading = read(LEVEL, content)
    assert (reading.status, reading.value) == ("unparsed", None)
    assert (reading.reason or "").startswith("the JSON cannot be read: ")


def test_json_keeps_long_integers_and_text_as_they_are() -> None:
    content = '{"level": "low", "id": 123456789012345678901234567890, "why": "é </x> }"}'
    assert (
        read(LEVEL, content).value == '{"id":123456789012345678901234567890,"level":"low","why":"é </x> }"}'
    )


def test_a_schema_may_ask_for_a_list() -> None:
    reader = Json({"type": "array", "items": {"type": "integer"}, "minItems": 1})
    assert read(reader, "So:\n```json\n[1, 2]\n```") == ParsedAnswer("ok", "[1,2]")
    assert read(reader, "[]").reason == "$: [] should be non-empty"


def test_a_number_that_a_schema_cannot_check_is_unparsed() -> None:
    reading = read(Json({"multipleOf": 0.5}), "1" + "0" * 400)
    assert reading == ParsedAnswer(
        "unparsed", None, "the JSON is too large or too deep to check against the schema"
    )


# Whatever comes back

PIECES = st.sampled_from(
    [
        *(
            "<difficulty>",
            "</difficulty>",
            "<DIFFICULTY >",
            "< /difficulty>",
            "<think>",
            "</think>",
            "</thinking>",
        ),
        *(
            "low",
            "High",
            "medium.",
            "**",
            "`",
            "```\n",
            '"',
            "{",
            "}",
            "[",
            ",",
            ":",
            '{"level":"low"}',
            "<score>",
        ),
        *(
            "</score>",
            "7",
            "11",
            "<specification>",
            "</specification>",
            " ",
            "\n",
            "\x00",
            "\ud800",
            "\x1b[0m",
            "<",
            "\u017f",
        ),
    ]
)
CONTENT = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=30).map("".join))


@settings(deadline=None)
@given(CONTENT, st.sampled_from([None, "stop", "length", "error", "tool_calls"]))
def test_reading_never_raises_and_never_makes_up_a_rating(content: str, finish_reason: str | None) -> None:
    reading = read_answer(RATING, completion(content, finish_reason=finish_reason))
    assert (reading.value is None) == (reading.status != "ok") == (reading.reason is not None)
    if reading.status == "ok":
        assert finish_reason in (None, "stop", "tool_calls")
        assert reading.value in RATING.one_of
        assert reading.value in split_thoughts(content).answer.casefold()
        assert "difficulty" in split_thoughts(content).answer.lower()


@settings(deadline=None)
@given(CONTENT)
def test_free_text_numbers_and_json_stand_in_the_visible_text(content: str) -> None:
    visible = split_thoughts(content).answer
    text = read(SPECIFICATION, content)
    assert text.value is None or (text.value in visible and text.value.strip())
    score = read(SCORE, content)
    assert score.value is None or (0 <= float(score.value) <= 10 and score.value in visible)
    level = read(LEVEL, content)
    assert level.value is None or json.loads(level.value)["level"] in visible


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "< ",
        "<think",
        "<think>",
        "</think>",
        "<difficulty>",
        "<difficulty> low",
        "{",
        '{"',
        '{"a":',
        "```\n",
        "```a\n",
        "\\",
        '"',
        "[",
        "[ {",
        ".*",
        "0",
        " ",
        "<difficulty>low</difficulty>",
        "<score>0",
        "<specification>a</specification>",
    ],
)
@pytest.mark.parametrize(
    "reader", [RATING, SCORE, SPECIFICATION, LEVEL, KERNEL], ids=["label", "number", "text", "json", "block"]
)
def test_a_long_answer_of_one_repeated_piece_is_read(piece: str, reader: AnswerFormat) -> None:
    """Two hundred thousand characters: a pattern that backtracks would not come back."""
    content = piece * (200_000 // len(piece))
    inside = f"<difficulty>{content}</difficulty><score>{content}</score>"
    block = f"BEGIN_PYTHON x{content}x END_PYTHON"
    for text in (content, inside, "{" + content, block):
        assert read(reader, text).status in ("ok", "unparsed")


@pytest.mark.parametrize(
    ("content", "reading"),
    [
        ("BEGIN_PYTHON\n \n\r\n  x = 1\n\n \nEND_PYTHON", ParsedAnswer("ok", "  x = 1")),
        ("BEGIN_PYTHON\n```python\n\n  x = 1 \n```\nEND_PYTHON", ParsedAnswer("ok", "  x = 1")),
        ("xBEGIN_PYTHON BEGIN_PYTHON x END_PYTHON END_PYTHON_", ParsedAnswer("ok", " x")),
        (
            "-BEGIN_PYTHON x END_PYTHON",
            ParsedAnswer("unparsed", None, "END_PYTHON without BEGIN_PYTHON before it"),
        ),
        (
            "BEGIN_PYTHON x -END_PYTHON",
            ParsedAnswer("unparsed", None, "BEGIN_PYTHON without END_PYTHON after it"),
        ),
        (
            "BEGIN_PYTHON \n \nEND_PYTHON",
            ParsedAnswer("unparsed", None, "nothing between BEGIN_PYTHON and END_PYTHON"),
        ),
    ],
)
def test_a_block_stands_between_marks_that_stand_alone(content: str, reading: ParsedAnswer) -> None:
    """Less blank lines around it and one code fence; its own indentation stays."""
    assert read(KERNEL, content) == reading

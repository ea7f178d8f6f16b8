"""What a message says: where in a text the thoughts are, and which of its fields and parts hold what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbetl.samples import messages
from kbetl.samples.messages import THOUGHT_TAGS, Split, ending_of, read_message, split_thoughts

PAIRS = [
    *((f"<{tag}>", f"</{tag}>") for tag in THOUGHT_TAGS),
    ("<THINK>", "</Think>"),
    ("< think >", "< / think >"),
    ('<thinking budget="9" mode=deep>', "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel>", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    (
        "<|channel|>commentary to=functions.x <|constrain|>json<|message|>",
        "<|call|><|channel|>final<|message|>",
    ),
]


_PLAIN_MARKS = sorted({mark for pair in PAIRS for mark in pair if "|channel|>" not in mark})


@pytest.mark.parametrize("mark", _PLAIN_MARKS)
def test_every_mark_holds_a_word_by_which_it_is_looked_for(mark):
    """A text without these words is not searched; gpt-oss's marks are looked for apart."""
    assert any(word in mark.lower() for word in messages._MARK_WORDS)


@pytest.mark.parametrize(("begin", "end"), PAIRS)
def test_a_thought_in_any_marks_is_no_answer(begin, end):
    """Closed, without its opening (the prompt held it), twice, and never closed."""
    assert split_thoughts(f"{begin}Is it?{end}\nLow.") == Split("Low.", "Is it?", None)
    assert split_thoughts(f"Is it?{end}Low.") == Split("Low.", "Is it?", None)
    assert split_thoughts(f"{begin}{end}Low.") == Split("Low.", None, None)
    unclosed = split_thoughts(f"{begin}Is it?")
    assert unclosed[:2] == ("", "Is it?")
    assert unclosed.unclosed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Low.", Split("Low.", None, None)),
        (" Low. ", Split(" Low. ", None, None)),
        ("", Split("", None, None)),
        ("Sure. <think>a</think> Low.", Split("Sure. \n Low.", "a", None)),
        ("<think>a<think>b</think>c</think>d", Split("d", "a\n\nb\n\nc", None)),
        ("<think>a</think>b<think>c</think>d", Split("b\nd", "a\n\nc", None)),
        ("Low. <think>or", Split("Low.", "or", "<think>")),
        ("a</think>b</think>c", Split("c", "a\n\nb", None)),
        ("<think/>Low.", Split("Low.", None, None)),
        ("<thinker>Low.</thinker>", Split("<thinker>Low.</thinker>", None, None)),
        ("`<think>` and '</think>' are marks", Split("`<think>` and '</think>' are marks", None, None)),
        ("```py\nx = '<think>y'\n```\nLow.", Split("```py\nx = '<think>y'\n```\nLow.", None, None)),
        ("```\n<think>a</think>\nLow.\n```", Split("```\n\n\nLow.\n```", "a", None)),
        ("```py\nx\n</think>\n```py\ny\n```", Split("```py\ny\n```", "```py\nx", None)),
        ("so ```x</think>Low.", Split("Low.", "so ```x", None)),
        ("<think>```\nx\n</think>Low.", Split("Low.", "```\nx", None)),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            "<|start|>assistant<|channel|>final<|message|>Low.<|return|>",
            Split("Low.", "a\n\nb", None),
        ),
        ("a<|end|><|start|>assistant<|channel|>final<|message|>Low.", Split("Low.", "a", None)),
        ("<|channel|>final<|message|><think>a</think>Low.", Split("Low.", "a", None)),
        ("<|channel|>finalLow.", Split("Low.", None, None)),
        ("<|channel|>analysis<|message|>a<|end|>Low.", Split("Low.", "a", None)),
        ("Low.<|channel|>analysis<|message|>a", Split("Low.", "a", None)),
        ("say '<|channel|>final' there", Split("say '<|channel|>final' there", None, None)),
        ("analysisWe need it.assistantfinalLow.", Split("Low.", "We need it.", None)),
        ("analysis of it: low", Split("analysis of it: low", None, None)),
    ],
)
def test_a_text_is_taken_apart(text, expected):
    assert split_thoughts(text) == expected


_PLAIN = [pair for pair in PAIRS if "final" not in pair[1]]


@given(
    st.lists(
        st.tuples(st.sampled_from(_PLAIN), st.sampled_from(["t", "t\nt", "```\nt", "`t`", "<t>"])), max_size=6
    )
)
def test_what_stands_between_marks_never_reaches_the_answer(thoughts):
    """However many thoughts, in whatever marks, stand between pieces of the answer."""
    text = "a " + "".join(f"{begin}{thought}{end}\na " for (begin, end), thought in thoughts)
    split = split_thoughts(text)
    assert "t" not in split.answer
    assert split.answer.count("a") == len(thoughts) + 1
    assert (split.thoughts or "").count("t") == sum(thought.count("t") for _, thought in thoughts)
    assert split.unclosed is None


@pytest.mark.parametrize(
    "piece",
    [
        "<think ",
        "<think>",
        "```\n",
        "<|channel|>",
        "<think a=b",
        "</think>",
        "```\n<think>",
        "</",
        "analysis",
        "< ",
    ],
)
def test_any_text_is_taken_apart_in_time_that_grows_with_its_length(piece):
    """100,000 of any piece of a mark: what were quadratic would take minutes."""
    assert split_thoughts(piece * 100_000).answer is not None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "Low."}, ("Low.", None, None)),
        ({"content": None}, (None, None, None)),
        ({"content": ""}, ("", None, None)),
        ({"content": []}, (None, None, None)),
        ({"content": ["Lo", "w."]}, ("Low.", None, None)),
        (
            {"content": [{"type": "text", "text": "Lo"}, {"type": "output_text", "text": "w."}]},
            ("Low.", None, None),
        ),
        (
            {
                "content": [
                    {
                        "type": "thinking",
                        "thinking": [{"type": "text", "text": "Is"}, {"type": "text", "text": " it?"}],
                    },
                    {"type": "text", "text": "Low."},
                ]
            },
            ("Low.", "Is it?", None),
        ),
        ({"content": [{"type": "thinking", "thinking": "Is it?"}]}, (None, "Is it?", None)),
        ({"content": [{"type": "reasoning", "text": "Is it?"}, "Low."]}, ("Low.", "Is it?", None)),
        (
            {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Is it?"}]}]},
            (None, "Is it?", None),
        ),
        ({"content": [{"text": "Is it?", "thought": True}, {"text": "Low."}]}, ("Low.", "Is it?", None)),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, (None, None, "No.")),
        ({"content": None, "refusal": "No."}, (None, None, "No.")),
        ({"content": "Low.", "reasoning": "Is it?"}, ("Low.", "Is it?", None)),
        ({"content": "Low.", "reasoning": "", "reasoning_content": "Is it?"}, ("Low.", "Is it?", None)),
        ({"content": "Low.", "reasoning": {"content": "Is it?"}}, ("Low.", "Is it?", None)),
        (
            {
                "content": "Low.",
                "reasoning_details": [{"type": "reasoning.text", "text": "Is it?", "index": 0}],
            },
            ("Low.", "Is it?", None),
        ),
        (
            {
                "content": "Low.",
                "reasoning_details": [
                    {"type": "reasoning.summary", "summary": "One.", "index": 0},
                    {"type": "reasoning.encrypted", "data": "AAAA", "index": 1},
                    {"type": "reasoning.summary", "summary": "Two.", "index": 2},
                ],
            },
            ("Low.", "One.\n\nTwo.", None),
        ),
        (
            {"content": "Low.", "reasoning_details": [{"type": "reasoning.encrypted", "data": "A"}]},
            ("Low.", None, None),
        ),
        (
            {"content": "Low.", "thinking_blocks": [{"type": "thinking", "thinking": "Is it?"}]},
            ("Low.", "Is it?", None),
        ),
    ],
)
def test_a_message_of_any_shape_is_read(message, expected):
    assert read_message(message)[:3] == expected


def test_parts_that_are_no_text_are_named():
    message = {
        "content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "Low."}, 7]
    }
    assert read_message(message) == ("Low.", None, None, ("image_url", "int"))


@pytest.mark.parametrize("content", [7, True, {"text": "Low."}])
def test_content_of_another_type_is_refused(content):
    with pytest.raises(ValueError, match="not a text"):
        read_message({"content": content})


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (
            "done",
            (
                "stop",
                "STOP",
                "eos",
                "eos_token",
                "end",
                "end_turn",
                "stop_sequence",
                "COMPLETE",
                " ",
                "",
                None,
            ),
        ),
        ("done", ("tool_calls", "function_call", "FinishReason.STOP", "FINISH_REASON_STOP", "stop-sequence")),
        ("cut", ("length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded")),
        ("cut", ("FinishReason.MAX_TOKENS", "max_output_tokens", "Max Tokens", "token_budget_exceeded")),
        (
            "declined",
            ("content_filter", "sensitive", "SAFETY", "PROHIBITED_CONTENT", "RECITATION", "BLOCKLIST"),
        ),
        ("declined", ("refusal", "content-filter", "SPII", "guardrail_intervened", "input_moderation")),
        ("broken", ("error", "network_error", "insufficient_system_resource", "abort", "upstream_timeout")),
        ("broken", ("Cancelled", "provider_error", "MALFORMED_FUNCTION_CALL")),
        ("unknown", ("OTHER", "banana", "FINISH_REASON_UNSPECIFIED", "42")),
    ],
)
def test_a_finish_reason_means_one_of_few_endings(ending, words):
    assert {word: ending_of(word) for word in words} == dict.fromkeys(words, ending)

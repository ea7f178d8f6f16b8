"""How a trace ended, as verifiers 0.4.1 tells it: `ok` decides, null is not scored, limits cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kbetl.json_codec import read_json
from kbetl.rollouts.detect import rows_of
from kbetl.samples.rollout_facts import rollout_facts

TRACES = next((Path(__file__).parents[1] / "data" / "rollouts").rglob("traces.jsonl"))
BOOM = {"type": "ProviderError", "message": "boom", "status_code": 500, "traceback": "..."}
LAST = {"type": "TaskError", "message": "scoring broke"}
CUT = {"node": 1, "model": "m", "finish_reason": "length"}
DONE = {"node": 1, "model": "m", "finish_reason": "stop"}
REFUSED = {"model": "m", "error": {"type": "ProviderError", "message": "too long", "status_code": 400}}
TOOL = {"type": "function", "name": "look", "description": "x", "parameters": {"type": "object"}}

ENDINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ok after a retry": (
        {"ok": True, "errors": [BOOM]},
        {"error": None, "earlier_errors": [{"type": "ProviderError", "message": "boom", "status_code": 500}]},
    ),
    "the last error ended it": (
        {"ok": False, "errors": [BOOM, LAST]},
        {
            "error": "TaskError",
            "earlier_errors": [{"type": "ProviderError", "message": "boom", "status_code": 500}],
        },
    ),
    "not ok without an error": ({"ok": False, "stop_condition": "timeout"}, {"error": "timeout"}),
    "nothing scored": (
        {"rewards": {"fast": None, "good": None}},
        {"reward": None, "error": "not scored", "unscored": ["fast", "good"], "nonfinite": ()},
    ),
    "scoring failed": (
        {"ok": False, "errors": [LAST], "rewards": {"fast": None}, "metrics": {"speed": None}},
        {"reward": None, "error": "TaskError", "unscored": ["fast"], "nonfinite": ()},
    ),
    "partly scored": (
        {"rewards": {"fast": {"score": 0.5, "weight": 0.5}, "good": None}},
        {"reward": 0.25, "error": None, "unscored": ["good"], "nonfinite": ()},
    ),
    "a score that is no number": (
        {"rewards": {"fast": {"score": None, "weight": 1.0}}},
        {"reward": None, "unscored": None, "nonfinite": ("$.rewards.fast.score",)},
    ),
    "a refused request": (
        {"nodes": [], "calls": [REFUSED]},
        {"error": "ProviderError", "error_text": "too long", "is_empty": True},
    ),
    "a refused request before an answer": (
        {"calls": [REFUSED, DONE]},
        {"error": None, "is_truncated": False},
    ),
    "cut by the last call": ({"calls": [DONE, CUT]}, {"is_truncated": True, "finish_reason": "length"}),
    "cut by an earlier call": ({"calls": [CUT, DONE]}, {"is_truncated": False, "finish_reason": "stop"}),
    **{
        f"stopped by {limit}": ({"stop_condition": limit, "calls": [DONE]}, {"is_truncated": True})
        for limit in (
            "max_turns",
            "max_input_tokens",
            "max_output_tokens",
            "max_total_tokens",
            "compaction_failed",
        )
    },
    "stopped by itself": ({"stop_condition": "agent_completed", "calls": [DONE]}, {"is_truncated": False}),
    "flat tools": (
        {"tools": [TOOL]},
        {"tools": [{"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}]},
    ),
}


@pytest.mark.parametrize(("change", "told"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("is_bare", [True, False], ids=["trace", "episode"])
def test_a_trace_ends_as_verifiers_says(change, told, is_bare):
    episode = json.loads(TRACES.read_text(encoding="utf-8").splitlines()[0])
    trace = {**episode["traces"][0], **change}
    line = trace if is_bare else {**episode, "ok": trace["ok"], "traces": [trace]}
    (parsed,) = rows_of(read_json(json.dumps(line).encode()))
    facts = rollout_facts(parsed.value)
    for name, value in told.items():
        if name == "nonfinite":
            found: Any = parsed.nonfinite
        elif name in ("reward", "tools"):
            found = parsed.value.get(name)
        else:
            found = getattr(facts, name)
            found = json.loads(found) if name in ("earlier_errors", "unscored") and found else found
        assert found == value, name

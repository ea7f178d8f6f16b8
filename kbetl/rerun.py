"""The command lines that do again what a run was told to do, from `runs.options`. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kbetl import config

RECORD = "synth record"

_TASK_COMMANDS = {"difficulty": ("enrich",), "prompts": ("prompts",)}

Told = Mapping[str, Any]
"""`runs.options` of a run; empty where there is none."""


def asking_words(task: str, told: Told) -> tuple[str, ...]:
    """The command that asks a task as a run was told to, less what is the default."""
    task = told.get("task") or task
    is_synth = "rollouts" in told
    words = _synth_words(task, told) if is_synth else [*_TASK_COMMANDS.get(task, ("enrich", "--task", task))]
    server = {"base_url": None} if is_synth else {}
    usual = {"model": config.MODEL, "base_url": config.BASE_URL}
    return (*words, *question_words({**told, **server}, usual))


def question_words(told: Told, usual: Told) -> tuple[str, ...]:
    """The options for model, server, key, headers and parameters, less what is as usual."""
    words = []
    for option, key in (("-m", "model"), ("-b", "base_url"), ("-k", "api_key_var")):
        value = told.get(key)
        if value is not None and value != usual.get(key):
            words += [option, value]
    for header in told.get("headers", ()):
        if header not in usual.get("headers", ()):
            words += ["--header", header]
    parameters = usual.get("parameters", {})
    for key, value in told.get("parameters", {}).items():
        if key not in parameters or parameters[key] != value:
            words += ["-o", key, json.dumps(value)]
    return tuple(words)


def _synth_words(task: str, told: Told) -> list[str]:
    """`synth run` with what it alone can be told."""
    words = ["synth", "run"]
    for option, key, usual in (
        ("--task", "task", "kernels"),
        ("--from", "prompts", "modules"),
        ("--rollouts", "rollouts", 1),
        ("--as", "name", None),
    ):
        value = told.get(key, task if key == "task" else usual)
        if value is not None and value != usual:
            words += [option, str(value)]
    for address in told.get("base_urls", ()):
        words += ["-b", address]
    return [*words, "--stream"] if told.get("stream") else words


def recording_words(told: Told) -> tuple[str, ...]:
    """The command that records the same runs in the same way."""
    words = [*RECORD.split(), *told["paths"]]
    for option in ("as", "model", "env"):
        if option in told:
            words += [f"--{option}", told[option]]
    for path in told.get("input", ()):
        words += ["--input", path]
    return (*words, "--follow") if told.get("follow") else tuple(words)

"""Loads task files, renders their prompts, and parses the answers of models."""

from kbetl.tasks.answer_formats import (
    AnswerFormat,
    Block,
    Json,
    Label,
    Number,
    Text,
    format_from_spec,
    format_spec,
)
from kbetl.tasks.answer_parser import PARSER_VERSION, parser_version, read_answer
from kbetl.tasks.task import Task
from kbetl.tasks.task_file import builtin_names, load_task

__all__ = [
    "PARSER_VERSION",
    "AnswerFormat",
    "Block",
    "Json",
    "Label",
    "Number",
    "Task",
    "Text",
    "builtin_names",
    "format_from_spec",
    "format_spec",
    "load_task",
    "parser_version",
    "read_answer",
]

"""Loads task files, renders their prompts, and parses the answers of models."""

from kbetl.tasks.answer_formats import (
    AnswerFormat,
    Block,
    Json,
    Label,
    Number,
    Pattern,
    Text,
    format_from_spec,
    format_spec,
)
from kbetl.tasks.answer_parser import PARSER_VERSION, parser_version, read_answer
from kbetl.tasks.task import Task
from kbetl.tasks.task_file import builtin_names, is_task_file, load_task, task_name

__all__ = [
    "PARSER_VERSION",
    "AnswerFormat",
    "Block",
    "Json",
    "Label",
    "Number",
    "Pattern",
    "Task",
    "Text",
    "builtin_names",
    "format_from_spec",
    "format_spec",
    "is_task_file",
    "load_task",
    "parser_version",
    "read_answer",
    "task_name",
]

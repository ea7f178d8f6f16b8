"""A task is a file: a question put to a model about a sample, and how its answer is read."""

from kbetl.tasks.answers import PARSER_VERSION, parser_version, read_answer
from kbetl.tasks.readers import Block, Json, Label, Number, Reader, Text, reader_from_spec, reader_spec
from kbetl.tasks.reading import builtin_names, load_task
from kbetl.tasks.task import Task

__all__ = [
    "PARSER_VERSION",
    "Block",
    "Json",
    "Label",
    "Number",
    "Reader",
    "Task",
    "Text",
    "builtin_names",
    "load_task",
    "parser_version",
    "read_answer",
    "reader_from_spec",
    "reader_spec",
]

"""Turns `kbetl.toml` into click's defaults: every table, key and value is checked, whichever command runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import click

from kbetl import config
from kbetl.dataset.registry import NAMES
from kbetl.errors import ConfigError
from kbetl.prices import check_prices

DATASETS = "datasets"
"""What `kbetl run` exports; a key of [export] alone, and no option."""
_OF_ONE = {
    "output": "a path is for one dataset: write it into [export.filtered], [export.unique], ...",
    "dataset": f"say what `kbetl run` exports with {DATASETS} = [...]",
    "sql": "a query is for one file: give it on the command line, as kbetl export --sql",
}
_SECRET_NAME = re.compile(
    "key|token(?!s|izer)|secret|passw|auth(?!or)|header|url|bearer|credential", re.IGNORECASE
)
"""Keys whose value may be a secret under the wrong name: it is not shown."""
_TABLE_AND_KEY = re.compile(
    r"(?:\[(?P<table>[^\]]+)\] )?(?:unknown key |has no key |has no option )?'?(?P<key>[\w.-]+)"
)
"""Table and key at the beginning of a message about a refused value."""
_KINDS = {
    "integer": "a whole number",
    "integer range": "a whole number",
    "float": "a number",
    "float range": "a number",
    "boolean": "true or false",
}


def defaults_from_toml(toml: Mapping[str, Any], commands: Iterable[click.Command]) -> dict[str, Any]:
    """The default map of the group: a table per command; `database` at the top holds for all.

    Raises ConfigError, with file, table, key and value, for the first thing that is not as it should be.
    """
    known = {command.name or "": command for command in commands}
    defaults: dict[str, dict[str, Any]] = {name: {} for name in known}
    for key, value in toml.items():
        if key == "database":
            if not isinstance(value, str) or not value:
                _refuse(f"database = {_shown(value)}", "it must be text in quotes")
            for name, options in defaults.items():
                for own in _tables_of(known[name], options):
                    own.setdefault("database", value)
        elif key in known and isinstance(value, dict):
            _merge(defaults[key], _own(key, known[key], value))
        elif key == "prices":
            check_prices(value)
        else:
            _refuse(
                f"unknown key {key!r}",
                f"it knows database, prices and tables named like commands{_where_keys_go(key)}",
            )
    return defaults


def _own(name: str, command: click.Command, values: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(command, click.Group):
        return _group(name, command, values)
    return _export(command, values) if name == "export" else _table(f"[{name}]", command, values)


def _group(name: str, group: click.Group, values: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a group of commands: [synth.record], [batch.write.enrich] and their like."""
    found = {}
    for key, value in values.items():
        if key not in group.commands or not isinstance(value, dict):
            tables = ", ".join(f"[{name}.{each}]" for each in group.commands)
            _refuse(f"[{name}] has no key {key!r}", f"it knows the tables {tables}")
        found[key] = _own(f"{name}.{key}", group.commands[key], value)
    return found


def _tables_of(command: click.Command, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables that hold options: the command's own, or those of the commands of a group."""
    if isinstance(command, click.Group):
        inner = ((each, options.setdefault(name, {})) for name, each in command.commands.items())
        return [table for each, own in inner for table in _tables_of(each, own)]
    return [options]


def _merge(options: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(options.get(key), dict):
            _merge(options[key], value)
        else:
            options[key] = value


def _export(command: click.Command, values: Mapping[str, Any]) -> dict[str, Any]:
    """[export] and the tables in it; those are kept under the dataset's name, which is no option's."""
    values = dict(values)
    # Tables of one dataset inside [export]: what they say wins over what [export] says.
    inner = {name: values.pop(name) for name in NAMES if isinstance(values.get(name), dict)}
    datasets = values.pop(DATASETS, None)
    for key, why in _OF_ONE.items():
        if key in values:
            _refuse(f"[export] {key} = {_shown(values[key])}", why)
    found = _table("[export]", command, values)
    if datasets is not None:
        found[DATASETS] = _datasets(datasets)
    for name, options in inner.items():
        for key in ("dataset", "sql"):
            if key in options:
                _refuse(f"[export.{name}] {key} = {_shown(options[key])}", f"the dataset is {name} here")
        found[name] = _table(f"[export.{name}]", command, options)
    return found


def _datasets(value: Any) -> list[str]:
    is_list = isinstance(value, list) and bool(value)
    if not is_list or not all(name in NAMES for name in value) or len(set(value)) < len(value):
        _refuse(
            f"[export] {DATASETS} = {_shown(value)}",
            f"it must be a list of some of {', '.join(NAMES)}, each once",
        )
    return list(value)


def _table(table: str, command: click.Command, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one table by the names that click knows them by."""
    known = _spellings(command)
    found: dict[str, Any] = {}
    if table == "[ingest]" and isinstance(values.get("map"), dict):
        values = {**values, "map": _mapped(values["map"])}
    for key, value in values.items():
        parameters = known.get(key.replace("-", "_"))
        if parameters is None:
            _refuse(
                f"{table} has no option {key!r}",
                f"it knows {', '.join(_names(command))}{_where_keys_go(key)}",
            )
        if isinstance(value, dict):
            _refuse(f"{table} {key}", "it is a table, not a value")
        name = parameters[0].name or ""
        if name in found:
            _refuse(f"{table} {key} = {_shown(value)}", "the same option stands above by another name")
        setting = f"{table} {key}" if _SECRET_NAME.search(key) else f"{table} {key} = {_shown(value)}"
        found[name] = _value(setting, parameters, key.replace("-", "_"), value)
    return found


def _mapped(table: Mapping[str, Any]) -> list[str]:
    """[ingest.map] as the options that say the same."""
    for name, path in table.items():
        if not isinstance(path, str):
            _refuse(f"[ingest.map] {name} = {_shown(path)}", "it must be text in quotes")
    return [f"{name}={path}" for name, path in table.items()]


def _spellings(command: click.Command) -> dict[str, list[click.Parameter]]:
    """How kbetl.toml may call the options and arguments of a command."""
    found: dict[str, list[click.Parameter]] = {}
    for parameter in command.params:
        spelled = {option.lstrip("-").replace("-", "_") for option in parameter.opts if option[:2] == "--"}
        for name in {(parameter.name or "").rstrip("_"), parameter.name or "", *spelled}:
            found.setdefault(name, []).append(parameter)
    return found


def _names(command: click.Command) -> list[str]:
    """Each option once, as the command line spells it."""
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    return sorted({max(each.opts, key=len).lstrip("-").replace("_", "-") for each in shown})


def _value(setting: str, parameters: Sequence[click.Parameter], key: str, value: Any) -> Any:
    """A value as click reads it. Several flags may set one option: `form = "csv"` is `csv = true`."""
    flags = _choosing_flags(parameters)
    if flags and key == parameters[0].name:
        if value not in flags:
            _refuse(setting, f"it must be one of {', '.join(map(repr, flags))}")
        return value
    if flags:
        if value is not True:
            _refuse(setting, "it must be true, or be left out")
        return flags[0]
    parameter = parameters[0]
    if parameter.multiple or parameter.nargs == -1:
        if not isinstance(value, list):
            _refuse(setting, "it must be a list, as [...]")
        return [_one(setting, parameter, each) for each in value]
    return _one(setting, parameter, value)


def _choosing_flags(parameters: Sequence[click.Parameter]) -> list[str]:
    """The values that flags of one option set; empty for any other option."""
    flags = [each.flag_value for each in parameters if isinstance(each, click.Option) and each.is_flag]
    return [value for value in flags if isinstance(value, str)]


def _one(setting: str, parameter: click.Parameter, value: Any) -> Any:
    """One value of the option's type; a list of so many if the option has several."""
    types = getattr(parameter.type, "types", [parameter.type] * max(parameter.nargs, 1))
    if len(types) > 1:
        if not isinstance(value, list) or len(value) != len(types):
            _refuse(setting, f"each must be a list of {len(types)}: {parameter.metavar or 'values'}")
        return tuple(
            _typed(setting, parameter, type_, each) for type_, each in zip(types, value, strict=True)
        )
    return _typed(setting, parameter, types[0], value)


def _typed(setting: str, parameter: click.Parameter, type_: click.ParamType[Any], value: Any) -> Any:
    wanted = _KINDS.get(type_.name, "text in quotes")
    allowed: tuple[type, ...] = (str,)
    if wanted != "text in quotes":
        allowed = {"true or false": (bool,), "a whole number": (int,)}.get(wanted, (int, float))
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        _refuse(setting, f"it must be {wanted}")
    try:
        type_.convert(value, parameter, None)
    except click.UsageError as error:
        _refuse(setting, error.message)
    return value


def _where_keys_go(key: str) -> str:
    """What to do about a secret in this file, in words; empty if the name is that of something else."""
    if not _SECRET_NAME.search(key):
        return ""
    return ". No key belongs into this file: put NAME=... into .env, and name it with api-key-var or header"


def _shown(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _refuse(what: str, why: str) -> NoReturn:
    found = _TABLE_AND_KEY.match(what)
    location = str(config.TOML) if found is None else config.toml_place(found["table"] or "", found["key"])
    raise ConfigError(f"{location}: {what}: {why.rstrip('.')}")

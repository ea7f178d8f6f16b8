"""Merges our card into a README.md of the Hub, and keeps all that others wrote in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kbetl.errors import HubError
from kbetl.text import plain_text

BEGIN = "<!-- kbetl:begin -->"
END = "<!-- kbetl:end -->"
LICENCE_NAMES = ("per-row", "as-in-the-sources")
"""Values of `license_name` that we write."""
_LICENCE = ("license", "license_name", "license_link")

_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"(?P<quote>[\"']?)(?P<key>[^\s#\-&*!|>%@`{}\[\],:\"'][^:\"']*?)(?P=quote)\s*:(?:\s|\Z)")


class Card(NamedTuple):
    """What a push writes into a README.md."""

    facts: Mapping[str, Any]
    """Keys of the front matter that are always ours; the value None removes one."""
    defaults: Mapping[str, Any]
    """Keys of the front matter that are written only if they are missing."""
    text: str
    """The body of a new card, with our part between BEGIN and END."""


class Readme(NamedTuple):
    """A README.md: `front` is its YAML without `---`, `values` is that parsed, `body` is the rest."""

    front: str
    values: Mapping[str, Any]
    body: str


class _Entry(NamedTuple):
    """A top-level key of the front matter in its own spelling; `remarks` are the comments above it."""

    key: str | None
    remarks: str
    text: str


def read_readme(text: str, name: str) -> Readme:
    """Splits a README.md into its parts. Raises HubError, naming `name`, for an invalid front matter."""
    import yaml

    found = _FRONT.match(text)
    if found is None:
        return Readme("", {}, text)
    try:
        values = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = plain_text(str(error).partition("\n")[0])
        raise HubError(f"{name}: its front matter is no YAML ({reason}); mend it on the Hub") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise HubError(f"{name}: its front matter is no table of keys; mend it on the Hub")
    return Readme(found[1], values, text[found.end() :])


def merged(readme: Readme, name: str, *, card: Card) -> str:
    """Returns the README.md with our keys and text updated, and everything else unchanged.

    Raises HubError if the marks around our text are not exactly one pair.
    """
    foreign = list(_foreign_entries(readme, card))
    lines = "".join(f"{entry.remarks}{entry.text}" for entry in foreign)
    there = {entry.key for entry in foreign}
    ours = {key: value for key, value in card.defaults.items() if key not in there}
    licence = {key: ours.pop(key) for key in _LICENCE if key in ours}
    # the licence is the last default: if it is ours it is written again, and must keep its position
    front = lines + _dumped(ours) + ("" if "license" in there else _dumped(licence)) + _dumped(card.facts)
    return f"---\n{front}---\n{_body(readme.body, name, card)}"


def _foreign_entries(readme: Readme, card: Card) -> Iterator[_Entry]:
    """Yields the entries that are not ours, and the comments above those that are."""
    name_is_ours = readme.values.get("license_name") in LICENCE_NAMES
    licence = _LICENCE if readme.values.get("license") == "other" else _LICENCE[1:]
    for entry in _entries(readme):
        is_ours = entry.key in card.facts or (name_is_ours and entry.key in licence)
        if not is_ours:
            yield entry
        elif entry.remarks:
            yield _Entry(None, entry.remarks, "")


def _entries(readme: Readme) -> Iterator[_Entry]:
    """Yields every key in its own spelling, or in ours if its text cannot be separated."""
    spelled = {entry.key: entry for entry in _spelled(readme.front)}
    for key, value in readme.values.items():
        entry = spelled.pop(key, None)
        if entry is not None and _says(entry.text, key, value):
            yield entry
        else:
            yield _Entry(key, entry.remarks if entry else "", _dumped({key: value}))
    if None in spelled:
        yield spelled[None]


def _spelled(front: str) -> Iterator[_Entry]:
    key: str | None = None
    remarks, text, above = "", "", ""
    for line in front.splitlines(keepends=True):
        found = _KEY.match(line)
        if found is not None:
            if key is not None:
                yield _Entry(key, remarks, text)
            key, remarks, text, above = found["key"], above, line, ""
        elif line.startswith("#") or not line.strip():
            above += line
        else:
            text, above = text + above + line, ""
    if key is not None:
        yield _Entry(key, remarks, text)
    if above.strip():
        yield _Entry(None, above, "")


def _says(text: str, key: str, value: Any) -> bool:
    import yaml

    try:
        return bool(yaml.safe_load(text) == {key: value})
    except (yaml.YAMLError, ValueError):
        return False


def _dumped(values: Mapping[str, Any]) -> str:
    import yaml

    given = {key: value for key, value in values.items() if value is not None}
    if not given:
        return ""
    text: str = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=2**20)
    return text


def _body(body: str, name: str, card: Card) -> str:
    if not body.strip():
        return "\n" + card.text
    ours = card.text[card.text.index(BEGIN) : card.text.index(END) + len(END)]
    begins, ends = body.count(BEGIN), body.count(END)
    if (begins, ends) == (0, 0):
        return f"{body.rstrip()}\n\n{ours}\n"
    if (begins, ends) != (1, 1) or body.index(BEGIN) > body.index(END):
        raise HubError(
            f"{name} holds {begins} of {BEGIN} and {ends} of {END}, where one of each in this order marks "
            "the text of kbetl; mend it on the Hub"
        )
    head, _, rest = body.partition(BEGIN)
    return head + ours + rest.partition(END)[2]

"""A README.md of the Hub in its parts, and what of it a push writes: the rest stays as it is. Pure."""

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
    """What a push has to say in a README.md."""

    facts: Mapping[str, Any]
    """Keys of the front matter that are always ours; None takes one away."""
    defaults: Mapping[str, Any]
    """Keys of the front matter that are only written where there is none."""
    text: str
    """The whole body of a new card, with our part between BEGIN and END."""


class Readme(NamedTuple):
    """`front` is YAML less its `---`, and its values; `body` is all that follows."""

    front: str
    values: Mapping[str, Any]
    body: str


class _Entry(NamedTuple):
    """One key of the front matter at its top, as it is spelled. `remarks` are the comments above it."""

    key: str | None
    remarks: str
    text: str


def read_readme(text: str, name: str) -> Readme:
    """Takes a README.md apart. Raises HubError where its front matter cannot be read, by its `name`."""
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
    """The README.md with our keys and our text in their places, and all else as it was.

    Raises HubError where the marks of our text are not one pair.
    """
    kept = list(_kept(readme, card))
    lines = "".join(f"{entry.remarks}{entry.text}" for entry in kept)
    there = {entry.key for entry in kept}
    ours = {key: value for key, value in card.defaults.items() if key not in there}
    licence = {key: ours.pop(key) for key in _LICENCE if key in ours}
    # last of the defaults: where it is ours it is written anew, and its place must not move
    front = lines + _dumped(ours) + ("" if "license" in there else _dumped(licence)) + _dumped(card.facts)
    return f"---\n{front}---\n{_body(readme.body, name, card)}"


def _kept(readme: Readme, card: Card) -> Iterator[_Entry]:
    """The entries that stay, and the comments of those that do not."""
    name_is_ours = readme.values.get("license_name") in LICENCE_NAMES
    licence = _LICENCE if readme.values.get("license") == "other" else _LICENCE[1:]
    for entry in _entries(readme):
        is_ours = entry.key in card.facts or (name_is_ours and entry.key in licence)
        if not is_ours:
            yield entry
        elif entry.remarks:
            yield _Entry(None, entry.remarks, "")


def _entries(readme: Readme) -> Iterator[_Entry]:
    """Every key with its own spelling; with ours where it cannot be taken out as it stands."""
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

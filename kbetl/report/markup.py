"""Builds HTML and SVG in which all text from outside is inert, because what is no `Markup` is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from kbetl.text import plain_text

_VOID = frozenset(("br", "meta", "line", "rect", "circle", "polyline"))
# Characters of a name or a reason that a cell shows; `kbetl query` has it whole.
_CELL = 160


class Markup(str):
    """Text that is HTML already; `tag` and `join` make it."""


Content = str | int | float | None


def inert(text: str) -> str:
    """Returns text for HTML, between tags and in attributes.

    Control characters and marks that turn the direction of text are shown as escapes.
    """
    lines = (plain_text(line.expandtabs(4)) for line in text.split("\n"))
    return html.escape("\n".join(lines), quote=True)


def tag(name: str, /, *content: Content, **attributes: Content) -> Markup:
    """Returns an element. `class_` is the attribute `class`, `aria_label` is `aria-label`; None: left out.

    >>> tag("td", "a<b", class_="n")
    '<td class="n">a&lt;b</td>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{inert(_spelled(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    opened = f"<{name}{given}>"
    if name in _VOID and not content:
        return Markup(opened.replace(">", "/>") if name not in ("br", "meta") else opened)
    return Markup(f"{opened}{join(content)}</{name}>")


def join(content: Iterable[Content], between: str = "") -> Markup:
    """Returns content one after the other, escaped if it is no Markup; None is nothing."""
    return Markup(
        between.join(each if isinstance(each, Markup) else inert(_spelled(each)) for each in content)
    )


def _spelled(value: Content) -> str:
    """Numbers as people read them: 12,345 and 0.85."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def cut(text: str | None, limit: int = _CELL) -> str:
    """Returns the beginning of a text, and how many characters of it are left out."""
    if text is None or len(text) <= limit:
        return text or ""
    return f"{text[:limit]}... ({len(text) - limit:,} more characters)"


def table(caption: str, names: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup:
    """Returns a table in a box that scrolls, its numbers to the right; without rows the caption alone."""
    rows = list(rows)
    if not rows:
        return paragraph(caption)
    kinds = [None if isinstance(value, str) else "n" for value in rows[0]]
    head = tag(
        "tr", *(tag("th", name, scope="col", class_=kind) for name, kind in zip(names, kinds, strict=True))
    )
    body = [
        tag("tr", *(tag("td", _shown(value), class_=kind) for value, kind in zip(row, kinds, strict=True)))
        for row in rows
    ]
    whole = tag(
        "table", tag("caption", caption), tag("thead", head), tag("tbody", join(body, "\n")), class_="data"
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _shown(value: Content) -> Content:
    return cut(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def details(summary: Content, *content: Content) -> Markup:
    """Returns content that is folded until it is clicked; it needs no script."""
    return tag("details", tag("summary", summary), *content)


def paragraph(*content: Content, class_: str | None = None) -> Markup:
    """Returns a paragraph."""
    return tag("p", *content, class_=class_)

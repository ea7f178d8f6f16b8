"""The page around the sections: one HTML file without script or request, the same for the same store."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from kbetl import resources
from kbetl.report.markup import Markup, details, join, paragraph, tag
from kbetl.store import ReportRow, Store

DOCTYPE = b"<!doctype html>"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page, and the queries that its figures come from."""

    title: str
    content: Markup


@dataclass(slots=True)
class Figures:
    """Runs the queries of a report and remembers them, so that the page can show how it was made."""

    store: Store
    asked: dict[str, ReportRow] = field(default_factory=dict)
    """The parameters of each query by its name, in the order in which they ran."""
    _known: dict[str, list[ReportRow]] = field(default_factory=dict)

    def rows(self, query: str, **parameters: object) -> list[ReportRow]:
        """All rows of a statement of `sql/queries/` by the names of their columns; each is run once."""
        if self.asked.get(query) != parameters:
            self.asked[query] = parameters
            self._known[query] = self.store.named_rows(query, parameters)
        return self._known[query]

    def row(self, query: str, **parameters: object) -> ReportRow:
        """The only row of a statement."""
        (found,) = self.rows(query, **parameters)
        return found


def document(title: str, head: Markup, sections: Sequence[Section]) -> bytes:
    """Returns the page as UTF-8."""
    style = resources.data_path("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = [tag("a", section.title, href=f"#{_anchor(section)}") for section in sections]
    parts = [
        tag("section", tag("h2", section.title), section.content, id=_anchor(section)) for section in sections
    ]
    top = join(
        (
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", title),
            tag("style", Markup(style)),
        ),
        "\n",
    )
    body = tag("main", head, tag("nav", *links, aria_label="Sections"), *parts)
    page = tag("html", tag("head", top), "\n", tag("body", body), lang="en")
    return DOCTYPE + f"\n{page}\n".encode()


def queries_used(asked: ReportRow) -> Markup:
    """Returns the SQL of every figure, folded, each with the command that reads it from standard input."""
    folded = []
    for name, parameters in asked.items():
        words = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
        command = shlex.join(("kbetl", "query", "-", *words))
        sql = tag("pre", resources.query(name).strip())
        folded.append(details(name.partition("/")[2], paragraph(tag("code", command)), sql))
    return join(folded)


def _anchor(section: Section) -> str:
    return section.title.lower().replace(" ", "-")

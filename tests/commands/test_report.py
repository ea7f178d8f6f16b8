"""`kbetl report`: one HTML file, whole, inert, and the same bytes for the same store."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Run

from kbetl.cli import run
from kbetl.report.figures import bins
from kbetl.report.markup import inert, tag
from kbetl.report.report import excerpt, make_report
from kbetl.resources import data_path
from kbetl.store import Store

SECTIONS = ["flow", "reward", "labels", "lengths", "duplicates-and-splits", "money-and-time", "left-over"]
SECTIONS += ["to-read", "how-it-was-made"]
VOID = {"meta", "br", "line", "rect", "polyline"}
PLANTED = (
    "</script></style></svg><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(1)> "
    f"\" ' &amp; \u202eevil\u2066 nul\0 \x1b[31m {'w' * 400}"
)
MODULE = "class Planted(nn.Module):\n    def forward(self, x):\n        return x + 1\n"


class Page(HTMLParser):
    """Parses a page; fails on an element that is not closed in its order."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def is_inert(page: Page) -> bool:
    """Nothing that runs, loads or leaves; no character that hides or turns text."""
    names = {name for _, attributes in page.tags for name in attributes}
    links = [link["href"] or "" for link in page.all("a")]
    return (
        not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "link", "object", "form", "base"}
        and not [name for name in names if name.startswith("on") or name in ("style", "src", "xlink:href")]
        and all(link.startswith("#") for link in links)
        and not set(page.text) & set("\0\x1b\u202e\u2066")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `demo.db` of the shipped rows, with a second task's labels, and `planted.db`."""
    folder = tmp_path_factory.mktemp("report")
    demo, planted = str(folder / "demo.db"), str(folder / "planted.db")
    assert run(["ingest", "-q", str(data_path("sample.jsonl")), "--as", "sample", "-d", demo]) == 0
    assert run(["enrich", "-q", "-m", "offline", "-d", demo]) == 0
    assert run(["lengths", "-q", "--tokenizer", str(data_path("tokenizer")), "-d", demo]) == 0
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in planted_rows()) + "{broken\n")
    assert run(["ingest", "-q", str(rows), "-d", planted]) == 3
    assert run(["enrich", "-q", "-m", "offline", "-d", planted]) == 0
    for database in (demo, planted):
        second_task(database)
    return folder


def planted_rows() -> list[dict[str, object]]:
    return [
        {
            "prompt": [{"role": "user", "content": PLANTED}],
            "completion": [{"role": "assistant", "content": PLANTED * 400, "reasoning": PLANTED}],
            "info": {"module_name": f"{PLANTED}{number}", "python_code": MODULE, "triton_code": PLANTED},
            "reward": 0.9 + number,
            "model": PLANTED,
            "env_id": f"{PLANTED}{number}",
        }
        for number in range(3)
    ]


OTHER_LABELS = """
insert into tasks (hash, name, about, model, parameters, in_use, reader, created_at, run_id, template)
select substr(hash, 1, 66) || 'x', name, about, :text, parameters, 0, reader, created_at, run_id, template
from tasks;
insert into outcomes (sample_hash, task_hash, attempt, status, parser_version, decided_at, value)
select
  sample_hash, (select hash from tasks where in_use = 0), 0, 'ok', 'p', decided_at,
  iif(value = 'low', 'high', 'low')
from outcomes;
update outcomes
set status = 'unparsed', value = null, reason = :text
where sample_hash = (select max(sample_hash) from outcomes)
  and task_hash = (select hash from tasks where in_use = 1);
update sources set name = :text where name <> 'sample'
"""


def second_task(database: str) -> None:
    """Other labels of another model, a label that could not be read, a planted source."""
    with Store.open(Path(database)) as store:
        for statement in OTHER_LABELS.split(";\n"):
            store.connection.execute(statement, {"text": PLANTED})


def test_the_page_is_whole_inert_and_has_every_section(folder, monkeypatch):
    monkeypatch.chdir(folder)
    page = (
        Page(Path("demo.html").read_bytes())
        if run(["report", "-d", "demo.db", "-o", "demo.html"]) == 0
        else None
    )
    assert page is not None
    assert is_inert(page)
    assert [section["id"] for section in page.all("section")] == SECTIONS
    assert len(page.all("figure")) == len(page.all("svg")) == page.text.count("Table of this figure") > 5
    assert all(drawing["role"] == "img" for drawing in page.all("svg"))
    for words in (
        "18 rollouts, 12 of them above reward 0.85, 11 in filtered",
        "Samples labelled differently: 11, the first 10",
        "seq_len",
        "Names that hide several codes",
        "two models disagree",
        "kbetl enrich --retry unparsed -d demo.db",
        "with good as materialized (",
    ):
        assert words in page.text


def test_planted_html_stays_text(folder, monkeypatch):
    """In names, models, environments, sources, reasons, prompts, answers and reasoning."""
    monkeypatch.chdir(folder)
    text = make_report(Path("planted.db"))
    assert len(text) < 300_000  # with answers of 200 KB each
    page = Page(text)
    assert is_inert(page)
    assert page.text.count("<script>alert(1)</script>") > 20
    assert r"\u202eevil\u2066 nul\x00 \x1b[31m" in page.text


def test_the_policy_allows_the_style_alone(folder):
    page = make_report(folder / "demo.db").decode()
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)"/?>', page)
    assert policy.replace("&#x27;", "'") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|https?:", style)


def test_the_same_store_gives_the_same_bytes_and_is_not_written(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = Path("demo.db").read_bytes()
    assert make_report(Path("demo.db")) == make_report(Path("demo.db"))
    assert Path("demo.db").read_bytes() == before


def test_every_query_of_the_page_gives_the_same_when_it_is_pasted(folder, capfd, monkeypatch):
    """The SQL that is shown is what the command beside it reads from standard input."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KBETL_DATABASE", "demo.db")
    page = make_report(Path("demo.db")).decode()
    folded = r"<summary>(report_\w+)</summary><p><code>kbetl (.*?)</code></p><pre>(.*?)</pre>"
    shown = re.findall(folded, page, re.DOTALL)
    assert len(shown) > 15
    for name, words, statement in shown:
        monkeypatch.setattr("sys.stdin", io.StringIO(html.unescape(statement)))
        assert run(shlex.split(html.unescape(words))) == 0, name
    assert '"filtered": 11' in capfd.readouterr().out


def test_stores_that_are_empty_old_locked_or_missing(folder, run: Run, tmp_path):
    """An empty store has a page; the others are one line, and leave the file that was there."""
    with Store.open(tmp_path / "empty.db"):
        pass
    done = run("report", "-d", "empty.db", "-o", "empty.html", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    empty = Page((tmp_path / "empty.html").read_bytes())
    assert is_inert(empty)
    assert "no sample yet" in empty.text
    old = tmp_path / "old.db"
    shutil.copy(folder / "demo.db", old)
    with sqlite3.connect(old) as connection:
        connection.execute("pragma user_version = 2")
    connection.close()
    for database, words in (("old.db", "has schema 2; this kbetl reads"), ("none.db", "no store at none.db")):
        done = run("report", "-d", database, "-o", "empty.html")
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert is_inert(Page((tmp_path / "empty.html").read_bytes()))
    done = run("report", "-d", "empty.db", "-o", "empty.html/x.html")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["store", "rows", "pipe", "folder", "link to the store"])
def test_what_is_no_report_is_not_replaced(run: Run, tmp_path, what):
    """A new file, an empty one and an older report are; a link stays one."""
    store, output = tmp_path / "kbetl.db", tmp_path / "x.html"
    with Store.open(store):
        pass
    before = store.read_bytes()
    if what == "pipe":
        os.mkfifo(output)
    elif what == "folder":
        output.mkdir()
    elif what == "rows":
        output.write_text("{}\n")
    else:
        output.symlink_to(store)
    done = run("report", "-o", store if what == "store" else output)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is there and is no report" in done.stderr or "is a directory" in done.stderr
    assert store.read_bytes() == before
    assert what != "rows" or output.read_text() == "{}\n"
    (tmp_path / "empty.html").touch()
    (tmp_path / "link.html").symlink_to("empty.html")
    for name in ("empty.html", "link.html"):
        assert run("report", "-o", name).returncode == 0
    assert (tmp_path / "link.html").is_symlink()


def test_a_store_that_another_process_writes_is_read_as_it_was(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = make_report(Path("demo.db"))
    connection = sqlite3.connect("demo.db", isolation_level=None)
    connection.execute("begin immediate")
    connection.execute("delete from scores")
    assert make_report(Path("demo.db")) == before
    connection.execute("rollback")
    connection.close()


@pytest.mark.parametrize("limit", [1, 10, 100])
@pytest.mark.parametrize("text", ["<" * 50, "é" * 50, "\0" * 50, "plain " * 9, ""])
def test_an_excerpt_is_within_its_bytes_and_says_what_it_leaves_out(text, limit):
    kept, _, hidden = excerpt(text, limit).partition("\n... ")
    assert len(inert(kept).encode()) <= limit
    assert len(kept) + int(hidden.partition(" ")[0] or 0) == len(text)
    assert text.startswith(kept)


@pytest.mark.parametrize(
    ("lowest", "highest"), [(0, 1), (0, 0), (-3.2, 7.9), (0.85, 0.851), (1e9, 2e9), (0, 1e-9), (5, 5)]
)
def test_bins_are_few_round_and_cover_the_range(lowest, highest):
    edges = bins(lowest, highest)
    assert 1 <= len(edges) - 1 <= 20
    assert edges[0] <= lowest
    assert edges[-1] >= highest
    assert edges == sorted(set(edges))


def test_what_is_no_markup_is_escaped_wherever_it_stands():
    assert tag("td", "<b>", title='"><script>') == '<td title="&quot;&gt;&lt;script&gt;">&lt;b&gt;</td>'
    assert tag("td", tag("b", "a&b"), 1234, None, 0.5) == "<td><b>a&amp;b</b>1,2340.5</td>"


BROWSER = shutil.which("chromium")


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
@pytest.mark.parametrize("name", ["demo", "planted"])
def test_a_browser_renders_it_without_an_error_or_a_request(folder, tmp_path, name):
    """What chromium logs has no error of a script, of the policy or of the network."""
    (tmp_path / "r.html").write_bytes(make_report(folder / f"{name}.db"))
    options = [
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
    ]
    options += [
        f"user-data-dir={tmp_path}/profile",
        "enable-logging=stderr",
        "window-size=390,800",
        "dump-dom",
    ]
    done = subprocess.run(
        [str(BROWSER), *(f"--{option}" for option in options), (tmp_path / "r.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert is_inert(Page(done.stdout.encode()))

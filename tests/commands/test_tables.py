"""`kbetl tables`: what is in a store, and the nearest name for one that is not."""

from __future__ import annotations

from enrich_case import Case

pytest_plugins = ["enrich_fixtures"]


def test_tables_and_views_are_listed_with_rows_and_columns(rated: Case):
    """Tables counted, views with what they are; one alone with each column."""
    listed = rated.kbetl("tables")
    assert (listed.status, listed.err) == (0, "")
    lines = {
        line.split()[1]: line.split(maxsplit=2)[2] for line in listed.out.splitlines() if line[5:7] == "  "
    }
    assert lines["samples"].startswith("6 rows  hash, kind, module_name,")
    assert lines["filtered"] == "The dataset `filtered`"
    assert "task_difficulty" in lines
    assert "sqlite_sequence" not in lines
    samples = rated.kbetl("tables", "samples").out.splitlines()
    assert samples[0] == "table samples: 6 rows"
    assert any(line.split()[:2] == ["code_hash", "text"] and "without source" in line for line in samples)
    tasks = rated.kbetl("tables", "tasks").out
    assert "the name as that of a view" in tasks
    labels = rated.kbetl("tables", "labels").out.splitlines()
    assert labels[0] == "view labels: 6 rows"
    assert labels[1].startswith("Every outcome of every task: value is the label")
    assert labels[2].split() == ["sample_hash", "text"]


def test_the_nearest_name_is_said(rated: Case):
    """Of tables and views here and in `query`, of columns in `query`; exit as before."""
    run = rated.kbetl("tables", "sampels")
    assert (run.status, run.out) == (2, "")
    assert run.err == "kbetl: no table or view 'sampels' in kbetl.db; did you mean samples?\n"
    assert rated.kbetl("tables", "zzz").err.endswith("; kbetl tables lists them\n")
    for statement, said in (
        ("select * from filterd", "no such table: filterd; did you mean filtered?"),
        ("select modul_name from samples", "no such column: modul_name; did you mean module_name?"),
        ("select s.modulename from samples as s", "no such column: s.modulename; did you mean module_name?"),
        ("select * from zzz", "no such table: zzz"),
    ):
        run = rated.kbetl("query", statement)
        assert (run.status, run.err) == (1, f"kbetl: SQL: {said}\n")

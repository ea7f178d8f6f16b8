"""`kbetl.dataset`: which rows, in which order, with which text and which Arrow types."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fill_disk import Filling

from kbetl.dataset.arrow import batches_of, columns_of, write_parquet
from kbetl.dataset.column_types import declared_columns
from kbetl.dataset.dataset import Dataset, open_dataset
from kbetl.errors import ConfigError
from kbetl.json_codec import append_keys
from kbetl.samples.fields import LABELS
from kbetl.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Filling:
    """Three rated rollouts and one that is not rated, all in one source."""
    filling = Filling(tmp_path / "kbetl.db")
    task = filling.task()
    hashes = [filling.rollout(name, reward, name) for name, reward in (("B", 0.9), ("A", 1.0), ("B", 0.95))]
    for sample in hashes:
        filling.outcome(sample, task, value="low")
    filling.source("evals", *hashes, filling.rollout("C", 1.0, "not rated"))
    return filling


def names(path: Path, dataset: Dataset) -> list[tuple[str | None, float | None]]:
    with Store.read(path) as store, open_dataset(store, dataset) as rows:
        return [(row.module_name, row.reward) for row in rows.every_row()]


def test_rows_come_in_the_order_of_their_dataset(store):
    """Source order; `unique` by reward, descending."""
    filtered = [("B", 0.9), ("A", 1.0), ("B", 0.95)]
    assert names(store.path, Dataset("filtered", splits=False)) == filtered
    assert names(store.path, Dataset("unique", splits=False)) == [("A", 1.0), ("B", 0.95)]
    assert names(store.path, Dataset("evals")) == [*filtered, ("C", 1.0)]
    assert names(store.path, Dataset("synthetic")) == []


def test_a_dataset_leaves_the_store_as_it_was(store):
    """A connection that only reads can read it, and still cannot write afterwards."""
    before = store.path.read_bytes()
    with Store.read(store.path) as reading:
        with open_dataset(reading, Dataset("filtered")) as rows:
            assert sum(rows.counts.values()) == 3
        assert reading.connection.execute("pragma query_only").fetchone() == (1,)
    assert store.path.read_bytes() == before


def test_sources_do_not_mix_unless_told(store):
    store.source("more", store.rollout("D", 1.0))
    with pytest.raises(ConfigError, match=r"rollouts of 2 sources: evals, more\. Say .* --source NAME"):
        names(store.path, Dataset("evals"))
    assert names(store.path, Dataset("evals", sources=("more",))) == [("D", 1.0)]
    assert len(names(store.path, Dataset("evals", all_sources=True))) == 5
    with pytest.raises(ConfigError, match="no such source; there are: evals, more"):
        names(store.path, Dataset("evals", sources=("other",)))


def test_where_chooses_among_the_rows_of_a_dataset(store):
    """After the dataset's own rules; what SQLite does not take is refused."""
    where = Dataset("unique", where="reward < 0.96 or module_name = 'C'", splits=False)
    assert names(store.path, where) == [("B", 0.95)]
    with pytest.raises(ConfigError, match="no such column: nonsense"):
        names(store.path, Dataset("unique", where="nonsense = 1"))


# text


@pytest.mark.parametrize(
    ("text", "expected", "replaced"),
    [
        (b'{"a": 1.0}', b'{"a": 1.0, "difficulty": "low"}', ()),
        (b'{"a":1e3 , "b":[ ] }', b'{"a":1e3 , "b":[ ], "difficulty": "low"}', ()),
        (b"{}", b'{"difficulty": "low"}', ()),
        (b'{"difficulty":"old","b":2}', b'{"difficulty":"low","b":2}', ("difficulty",)),
        (b'{"difficult\\u0079" : null}', b'{"difficult\\u0079" : "low"}', ("difficulty",)),
        (b'{"a": {"difficulty": 1}}', b'{"a": {"difficulty": 1}, "difficulty": "low"}', ()),
        (b'{"a": "\\"difficulty\\""}', b'{"a": "\\"difficulty\\"", "difficulty": "low"}', ()),
        ('{"ä": "}"}'.encode(), '{"ä": "}", "difficulty": "low"}'.encode(), ()),
        (b'{"n": %s}' % (b"9" * 5000), b'{"n": %s, "difficulty": "low"}' % (b"9" * 5000), ()),
    ],
)
def test_a_column_is_put_in_and_every_other_byte_stays(text, expected, replaced):
    """A column of the row's own with that name gets our value, at its place."""
    assert append_keys(text, {"difficulty": "low"}) == (expected, replaced)


# Arrow


def types_of(*rows: object, declared: dict[str, object] | None = None) -> tuple[dict[str, str], list[str]]:
    columns = columns_of(rows, declared)  # type: ignore[arg-type]
    return {field.name: str(field.type) for field in columns.schema}, list(columns.notes)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], "int64"),
        ([1, 1.5], "double"),
        ([1.0], "double"),
        ([True, None], "bool"),
        ([None], "null"),
        (["a", None], "string"),
        ([2**64 - 1], "uint64"),
        ([{"a": 1}, {"b": "x"}], "struct<a: int64, b: string>"),
        ([[], [{"a": None}]], "list<item: struct<a: null>>"),
        ([[]], "list<item: null>"),
        (["2026-11-22T10:00:00"], "string"),
    ],
)
def test_a_type_holds_every_value_as_it_is(values, expected):
    assert types_of(*({"c": value} for value in values)) == ({"c": expected}, [])


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["a", {"b": 1}, None], ['"a"', '{"b":1}', None]),
        ([1, "1"], ["1", '"1"']),
        ([True, 1], ["true", "1"]),
        ([{}], ["{}"]),
        ([2**64, -1], [str(2**64), "-1"]),
        ([2**53 + 1, 0.5], [str(2**53 + 1), "0.5"]),
    ],
)
def test_what_no_type_holds_is_json_text_and_that_is_said(values, texts):
    rows = [{"c": {"inner": value}} for value in values]
    columns = columns_of(rows)
    assert str(columns.schema.field("c").type) == "struct<inner: string>"
    assert len(columns.notes) == 1
    assert columns.notes[0].startswith("column c.inner is JSON text: it holds ")
    assert [row["c"]["inner"] for row in written(columns, rows)] == texts


def written(columns, rows):
    """Rows, after they were written to a Parquet file and read."""
    import pyarrow.parquet as pq

    from kbetl.dataset.arrow import batches_of

    file = io.BytesIO()
    write_parquet(file, columns, batches_of(((row, 1) for row in rows), columns))
    return pq.read_table(file).to_pylist()


def test_a_declared_type_holds_where_the_values_fit():
    declared = {
        "a": "int32",
        "b": "float64",
        "c": "string",
        "d": [{"x": "float64", "y": "string"}],
        "e": "int8",
    }
    row = {"a": 1, "b": 1, "c": None, "d": [{"x": 1}], "e": 1000}
    assert types_of(row, declared=declared) == (
        {
            "a": "int32",
            "b": "double",
            "c": "string",
            "d": "list<item: struct<x: double, y: string>>",
            "e": "int64",
        },
        ["column e holds values that are not as its source declares them"],
    )


def test_declarations_of_datasets_and_of_arrow_are_read_alike():
    """What is not understood, or not declared by all sources alike, is not declared."""
    by_datasets = {
        "n": {"dtype": "float64", "_type": "Value"},
        "prompt": {"feature": {"role": {"dtype": "string", "_type": "Value"}}, "_type": "List"},
        "old": [{"role": {"dtype": "string", "_type": "Value"}}],
        "label": {"names": ["a"], "_type": "ClassLabel"},
        "time": {"dtype": "timestamp[s]", "_type": "Value"},
    }
    by_arrow = {
        "n": "double",
        "prompt": "list<element: struct<role: string>>",
        "old": "list<item: struct<role: string>>",
        "label": "dictionary<values=string, indices=int32, ordered=0>",
        "time": "timestamp[s]",
    }
    expected = {"n": "float64", "prompt": [{"role": "string"}], "old": [{"role": "string"}]}
    assert declared_columns([json.dumps(by_datasets)]) == expected
    assert declared_columns([json.dumps(by_datasets), json.dumps(by_arrow)]) == expected
    assert declared_columns([json.dumps(by_datasets), None]) == {}
    assert declared_columns([json.dumps({"n": "int64"}), json.dumps({"n": "double"})]) == {}


def test_a_parquet_file_holds_the_rows_and_is_the_same_twice(store):
    import pyarrow.parquet as pq

    files = [io.BytesIO(), io.BytesIO()]
    with Store.read(store.path) as reading, open_dataset(reading, Dataset("filtered", splits=False)) as rows:
        for file in files:
            values = [(json.loads(row.text), len(row.text)) for row in rows.rows()]
            columns = columns_of((value for value, _ in values), last=LABELS)
            assert write_parquet(file, columns, batches_of(values, columns)) == 3
        expected = [json.loads(row.text) for row in rows.rows()]
    assert files[0].getvalue() == files[1].getvalue()
    assert pq.read_table(files[0]).to_pylist() == expected
    assert columns.schema.names == ["completion", "reward", "module_name", "difficulty", "evaluation_raw"]

"""The card of a dataset: what it says, what of a README.md it leaves alone, and column types."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from fill_disk import TIME, Filling

import kbetl
from kbetl.dataset.dataset import Dataset, open_dataset
from kbetl.errors import HubError
from kbetl.export.source import DatasetSource
from kbetl.hub.card import make_card
from kbetl.hub.card_data import read_facts
from kbetl.hub.parquet_files import (
    BuiltFiles,
    column_types,
    described,
    differences,
    with_features,
    write_files,
)
from kbetl.hub.readme import BEGIN, END, Card, merged, read_readme
from kbetl.store import Store
from kbetl.text import inert_markdown as inert

GOLDEN = Path(__file__).parents[1] / "data" / "card_filtered.md"
CARD = Card(
    {"configs": [{"config_name": "default"}], "source_datasets": None},
    {"license": "other", "license_name": "per-row", "tags": ["kbetl"]},
    f"# Title\n\n{BEGIN}\nfacts\n{END}\n",
)


@pytest.fixture
def filling(tmp_path: Path) -> Filling:
    """Two sources of rollouts, rated and not, good and not, and a source of modules."""
    store = Filling(tmp_path / "kbetl.db")
    task = store.task(template="Rate {{ completion }}", system="Be fair.", parameters='{"max_tokens":256}')
    rows = [
        {"module_name": f"M{number}", "reward": reward, "model": "glm", "licenses": licences}
        for number, (reward, licences) in enumerate(
            [(1.0, ["MIT"]), (0.9, ["MIT"]), (1.5, ["MIT", "BSD-3-Clause"]), (0.95, None), (0.2, None)]
        )
    ]
    hashes = [store.sample(row) for row in rows]
    outcomes = [("ok", "high"), ("ok", "low"), ("ok", "low"), ("unparsed", None)]
    for sample, (status, value) in zip(hashes, outcomes, strict=False):
        store.outcome(sample, task, status, value)
    hub = store.add(
        "sources",
        name="evals",
        uri="siro1/kernelbook-glm4_7-evals",
        kind="hub",
        revision="a" * 40,
        split="train",
        ingested_at=TIME,
    )
    for position, sample in enumerate(hashes):
        store.add("source_samples", source_id=hub, position=position, sample_hash=sample)
    store.add(
        "rejected_rows", source_id=hub, position=5, location="f:6", reason="no JSON", run_id=store.run_id
    )
    store.source("/home/me/secret/more.jsonl", hashes[0], store.rollout("X", 0.99))
    for sample, tokens in zip(hashes, (100, 300, 200), strict=False):
        store.add(
            "lengths",
            sample_hash=sample,
            tokenizer="/models/qwen",
            template_hash="h1:abc",
            prompt_tokens=1,
            completion_tokens=tokens - 1,
            total_tokens=tokens,
        )
    return store


def built(
    path: Path, folder: Path, dataset: Dataset, shard_bytes: int = 2**30, format_: str = "rows"
) -> tuple[BuiltFiles, Card]:
    folder.mkdir()
    with Store.read(path) as store, open_dataset(store, dataset) as rows:
        files = write_files(DatasetSource(rows, format_), folder, shard_bytes)
        return files, make_card(read_facts(rows, files.rows, files.notes), files)


def whole(card: Card) -> str:
    return merged(read_readme("", "README.md"), "README.md", card=card)


def test_card_says_what_the_store_knows(filling, tmp_path):
    """Bit by bit: what was read, asked, kept and how; no time, and no path of this machine."""
    _, card = built(filling.path, tmp_path / "out", Dataset("filtered", all_sources=True))

    text = whole(card).replace(f"made by kbetl {kbetl.__version__}.", "made by kbetl VERSION.")
    text = re.sub(r"download_size: \d+", "download_size: BYTES", text)  # Parquet's, another with each pyarrow

    assert text == GOLDEN.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "2026" not in text


def test_same_store_same_card_and_files(filling, tmp_path):
    """Also on a connection that has read other things before."""
    dataset = Dataset("unique", ("evals",))
    first, first_card = built(filling.path, tmp_path / "a", dataset)
    second, second_card = built(filling.path, tmp_path / "b", dataset)

    assert [file._replace(local=Path()) for file in first.files] == [
        file._replace(local=Path()) for file in second.files
    ]
    assert whole(first_card) == whole(second_card)


def test_counts_are_of_the_chosen_source(filling, tmp_path):
    """What another source holds is not in the card, not even as a count."""
    _, card = built(filling.path, tmp_path / "out", Dataset("filtered", ("evals",)))

    assert "| rows read | 6 |" in card.text
    assert "| different rollouts | 5 |" in card.text
    assert "| not asked about yet | 0 |" in card.text
    assert "more.jsonl" not in card.text


def test_files_are_cut_at_a_size(tmp_path):
    """Names count the parts, and the parts together hold every row in order."""
    import pyarrow.parquet as pq

    store = Filling(tmp_path / "kbetl.db")
    store.source("evals", *(store.rollout(f"M{number}", 1.0, "x" * 2**20) for number in range(9)))

    files, _ = built(store.path, tmp_path / "out", Dataset("evals"), shard_bytes=2**20)

    names = [file.path for file in files.files]
    assert names == [f"data/train-{number:05}-of-{len(names):05}.parquet" for number in range(len(names))]
    assert 1 < len(names) <= 9
    rows = [name for file in files.files for name in pq.read_table(file.local)["module_name"].to_pylist()]
    assert rows == [f"M{number}" for number in range(9)]
    assert files.splits["train"].rows == 9


def test_side_without_rows_is_left_out_and_said(tmp_path):
    store = Filling(tmp_path / "kbetl.db")
    task = store.task()
    sample = store.rollout("A", 1.0)
    store.outcome(sample, task, value="low")
    store.source("evals", sample)

    files, card = built(store.path, tmp_path / "out", Dataset("filtered"))

    (split,) = files.rows
    missing = {"train": "validation", "validation": "train"}[split]
    assert files.notes == [f"no row is on the side {missing}"]
    assert [each["split"] for each in card.facts["configs"][0]["data_files"]] == [split]


HOSTILE = 'a|b<script>alert(1)</script>\n# x [l](http://e.vil) www.e.vil `c` @me $x$ \x1b[31m -->"'


def test_text_from_rows_is_inert(tmp_path):
    """In Markdown, HTML and YAML: one line, one cell, no element, no link, no mark of ours."""
    store = Filling(tmp_path / "kbetl.db")
    model = f"{HOSTILE}{END}"
    store.source(
        HOSTILE, store.sample({"module_name": "A", "reward": 1.0, "model": model, "licenses": [model]})
    )
    _, card = built(store.path, tmp_path / "out", Dataset("evals"))

    readme = read_readme(whole(card), "README.md")

    assert card.text.count(END) == 1
    assert "<script" not in card.text
    assert "http://" not in card.text
    assert "\x1b" not in card.text
    (line,) = [line for line in card.text.splitlines() if line.startswith("- Models")]
    assert line == f"- Models that wrote the rollouts: {inert(model)} (1)."
    assert readme.values["source_datasets"] == ["original"]


def test_inert_text_shows_as_it_was():
    assert inert("openai/gpt-5.2") == "openai/gpt-5.2"
    assert inert("a_b") == "a\\_b"
    assert inert("<b>&") == "&lt;b&gt;&amp;"
    assert inert("https://x.y www.x") == "https:/&#47;x.y www&#46;x"


# README.md


def front(text: str) -> str:
    return text.split("---\n")[1]


def test_new_card_has_front_matter_and_body():
    text = whole(CARD)
    assert yaml.safe_load(front(text)) == {
        "license": "other",
        "license_name": "per-row",
        "tags": ["kbetl"],
        "configs": [{"config_name": "default"}],
    }
    assert text.endswith(f"---\n\n# Title\n\n{BEGIN}\nfacts\n{END}\n")


def test_what_a_hand_wrote_stays_as_it_was():
    """Keys, their spelling and comments, and the text above and below ours."""
    theirs = (
        "---\n# by hand\nlicense:   mit  # really\ntags: [a,\n  b]\nconfigs:\n- old\n"
        "extra: |\n  # no comment\n\n  text\n# the end\n---\n"
        f"# Mine\r\n\n{BEGIN}\nold\n{END}\n\nbelow\n"
    )
    text = merged(read_readme(theirs, "x"), "x", card=CARD)
    assert text == (
        "---\n# by hand\nlicense:   mit  # really\ntags: [a,\n  b]\nextra: |\n  # no comment\n\n"
        "  text\n# the end\nconfigs:\n- config_name: default\n---\n"
        f"# Mine\r\n\n{BEGIN}\nfacts\n{END}\n\nbelow\n"
    )


@pytest.mark.parametrize(
    "theirs",
    [
        "",
        "hand-written, no marks",
        "---\n{license: mit, tags: [a]}\n---\ntext\n",
        "---\nbase: &a [x]\nother: *a\n---\n",
        "---\nlicense: other\nlicense_name: as-in-the-sources\nmine: 1\n---\n",
        "---\n---\n",
    ],
)
def test_merging_again_changes_nothing(theirs):
    """Whatever was there; and no value of a key that is not ours is lost."""
    before = read_readme(theirs, "x")
    once = merged(before, "x", card=CARD)
    after = read_readme(once, "x")
    assert merged(after, "x", card=CARD) == once
    ours = {"license", "license_name"} if "license_name" in before.values else set()
    for key in before.values.keys() - ours:
        assert after.values[key] == before.values[key]
    assert before.body.strip() in once


def test_licence_of_a_hand_takes_no_name_of_ours():
    text = merged(read_readme("---\nlicense: mit\n---\n", "x"), "x", card=CARD)
    assert "license_name" not in yaml.safe_load(front(text))


def test_licence_that_we_wrote_follows_the_rows():
    theirs = "---\nlicense: other\nlicense_name: as-in-the-sources\n---\n"
    assert "license_name: per-row" in merged(read_readme(theirs, "x"), "x", card=CARD)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ("---\na: [\n---\n", "x: its front matter is no YAML"),
        ("---\n- a\n---\n", "x: its front matter is no table of keys"),
        (f"{BEGIN} and no end", f"x holds 1 of {BEGIN} and 0 of {END}"),
        (f"{END}{BEGIN}", f"x holds 1 of {BEGIN} and 1 of {END}"),
        (f"{BEGIN}{BEGIN}{END}", f"x holds 2 of {BEGIN} and 1 of {END}"),
    ],
)
def test_card_that_cannot_be_read_is_not_written_over(theirs, message):
    with pytest.raises(HubError) as refused:
        merged(read_readme(theirs, "x"), "x", card=CARD)
    assert str(refused.value).startswith(message)


# columns

SCHEMA = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.list_(pa.struct([("role", pa.string()), ("n", pa.list_(pa.int64()))]))),
        ("c", pa.struct([("x", pa.float64()), ("y", pa.null())])),
        ("d", pa.list_(pa.list_(pa.bool_()))),
        ("e", pa.large_string()),
        ("f", pa.uint8()),
        ("g", pa.list_(pa.struct([("only", pa.string())]))),
    ]
)


def test_columns_are_spelled_as_datasets_spells_them():
    """In the card and in the metadata of a Parquet file."""
    from datasets import Features

    features = Features.from_arrow_schema(SCHEMA)

    assert described(SCHEMA) == features._to_yaml_list()
    assert with_features(SCHEMA).metadata == features.arrow_schema.metadata
    assert Features._from_yaml_list(described(SCHEMA)) == features


def test_columns_are_compared_by_what_they_hold():
    """Not by the order of columns or keys, nor by which version of `datasets` spelled them."""
    ours = column_types(described(SCHEMA))
    assert ours == {
        "a": "string",
        "b": "list<struct<n: list<int64>, role: string>>",
        "c": "struct<x: float64, y: null>",
        "d": "list<list<bool>>",
        "e": "string",
        "f": "uint8",
        "g": "list<struct<only: string>>",
    }
    older = [{"name": "a", "dtype": "large_string"}, {"name": "d", "sequence": {"list": "bool"}}]
    assert column_types(older) == {"a": "string", "d": "list<list<bool>>"}
    assert column_types("nonsense") is None
    assert differences(ours, {**ours, "h": "string"}) == ["+ h: string"]
    assert differences({"a": "string", "z": "int64"}, {"a": "int64"}) == [
        "- a: string",
        "+ a: int64",
        "- z: int64",
    ]
    picture = [{"name": "p", "dtype": {"class_label": {"names": {"0": "no"}}}}]
    assert column_types(picture) == {"p": '{"class_label": {"names": {"0": "no"}}}'}

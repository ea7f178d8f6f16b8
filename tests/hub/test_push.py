"""kbetl push, with the real clients against a Hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import clean_environment
from fake_hub import TOKEN, FakeHub
from fill_disk import Filling
from push_case import FILTERED, SYNTHETIC, TRAIN, commits, hub, push, rollout, runs, store, writes

from kbetl.dataset.dataset import Dataset, open_dataset
from kbetl.export.formats import UNREAD_REASONING
from kbetl.hub.readme import BEGIN, END
from kbetl.store import Store

__all__ = ["hub", "push", "store"]

UNIQUE = "siro1/kernelbook-glm4_7-evals-unique"
EVALS = "siro1/kernelbook-glm4_7-evals"
REPOS = {"filtered": FILTERED, "unique": UNIQUE, "synthetic": SYNTHETIC, "evals": EVALS}


def rows_of(store: Path, name: Any) -> dict[str, list[Any]]:
    with Store.read(store) as reading, open_dataset(reading, Dataset(name)) as dataset:
        return {
            side or "train": [json.loads(row.text) for row in dataset.rows(side)] for side in dataset.counts
        }


def state(hub: FakeHub) -> dict[str, str]:
    return {name: repo.sha for name, repo in hub.repos.items()}


READ = """
import datasets, json, sys
found = {}
for repo in sys.argv[1:]:
    sides = datasets.load_dataset(repo)
    found[repo] = {side: [list(rows.features), rows.to_list()] for side, rows in sides.items()}
print(json.dumps(found))
"""


def test_datasets_reads_what_push_wrote(push, store, hub, tmp_path):
    """All four, unmodified `datasets`: splits, columns in order, every value. And nothing says the token."""
    result = push("all", "--private")

    assert (result.returncode, result.stderr) == (
        0,
        f"{UNREAD_REASONING}\nrecords: no rows, so it is not pushed\n",
    )
    expected = {repo: rows_of(store, name) for name, repo in REPOS.items()}
    assert result.stdout.splitlines() == [
        f"{name}: {repo}, rows {', '.join(f'{side} {len(rows)}' for side, rows in expected[repo].items())}: "
        f"commit {hub.repos[repo].sha}"
        for name, repo in REPOS.items()
    ]
    assert [len(rows) for rows in expected[FILTERED].values()] == [27, 3]
    read = subprocess.run(
        [sys.executable, "-c", READ, *REPOS.values()],
        env=clean_environment(HOME=str(tmp_path), **hub.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    for repo, sides in json.loads(read.stdout.splitlines()[-1]).items():
        assert {side: rows for side, (_, rows) in sides.items()} == expected[repo]
        for side, (columns, _) in sides.items():
            assert columns == list(expected[repo][side][0])
    assert all(repo.is_private for repo in hub.repos.values())

    kept = [path.read_bytes() for path in tmp_path.glob("kbetl.db*")]
    sent = [content for repo in REPOS.values() for content in hub.files(repo).values()]
    assert all(TOKEN.encode() not in content for content in (*kept, *sent, result.stdout.encode()))


def test_second_push_makes_no_commit(push, store, hub):
    """And says so; each push is a run, with its counts."""
    first = push("unique")
    before = state(hub)
    hub.requests.clear()

    second = push("unique")

    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stdout == f"unique: {UNIQUE}, rows train 18, validation 2: unchanged\n"
    assert (state(hub), writes(hub)) == (before, [])
    (one, two) = runs(store)
    assert (one[1], two[1]) == (0, 0)
    rows = {"train": 18, "validation": 2}
    assert json.loads(one[2]) == {"unique": {"repo": UNIQUE, "rows": rows, "commit": before[UNIQUE]}}
    assert json.loads(two[2]) == {"unique": {"repo": UNIQUE, "rows": rows, "commit": None}}


def test_conflicts_and_throttling_are_survived(push, store, hub):
    """Each once; `Retry-After` is obeyed, and files that went up stay up."""
    hub.faults = [409, 412, 503, (429, 1), 502]

    result = push("unique")

    assert result.returncode == 0
    waits = [line.rpartition(" in ")[2] for line in result.stderr.splitlines() if "trying again" in line]
    assert waits == ["0.0 s", "0.0 s", "0.0 s", "1.0 s", "0.0 s"]
    assert commits(hub) == 6
    assert sum(request.startswith("PUT") for request in hub.requests) == 2
    assert len(hub.repos[UNIQUE].commits) == 3


def test_commit_whose_reply_was_lost_is_not_made_twice(push, store, hub):
    """Whether it was made is seen by comparing again."""
    hub.faults = ["lost"]

    result = push("unique")

    assert result.returncode == 0
    assert result.stdout.endswith(f": commit {hub.repos[UNIQUE].sha}\n")
    assert commits(hub) == 1


def test_hub_that_stays_busy_is_one_error(push, store, hub):
    hub.faults = [503] * 20

    result = push("unique")

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"kbetl: {UNIQUE}: the Hub answered 503 (a fault on order); 8 tries were in vain. What is there is "
        "whole; run the same again later"
    )
    assert TRAIN not in hub.files(UNIQUE)
    assert [run[1] for run in runs(store)] == [1]


def test_hub_that_asks_to_wait_for_hours_is_not_waited_for(push, store, hub):
    hub.faults = [(429, 7200)]

    result = push("unique")

    assert result.returncode == 1
    assert "it asks to wait 7200 s" in result.stderr
    assert commits(hub) == 1


def test_card_that_was_changed_meanwhile_is_read_again(push, store, hub):
    """The head moves between reading and committing: 412, and the text of the other is kept."""
    push("unique")
    card = hub.files(UNIQUE)["README.md"]
    by_hand = card.replace(b"# KernelBook", b"# My KernelBook").replace(b"license: other", b"license: mit")
    with Filling(store) as filling:
        filling.sample(rollout(50))
        filling.add("rejected_rows", source_id=1, position=99, location="f:1", reason="x", run_id=1)
    changed: list[str] = []

    def interfere(request: str) -> None:
        if "/commit/" in request and not changed:
            changed.append(hub.commit(UNIQUE, {"README.md": by_hand, "notes.txt": b"mine"}))

    hub.watch = interfere
    result = push("unique")

    assert result.returncode == 0
    assert "the Hub answered 412" in result.stderr
    files = hub.files(UNIQUE)
    text = files["README.md"].decode()
    assert files["notes.txt"] == b"mine"
    assert "# My KernelBook" in text
    assert "license: mit" in text
    assert "license_name" not in text
    assert "| rows rejected | 1 |" in text


def test_text_outside_the_marks_is_kept(push, store, hub):
    by_hand = f"---\nlicense: mit # mine\n---\n# Mine\n\n{BEGIN}\nold\n{END}\n\nand more\n"
    hub.commit(UNIQUE, {"README.md": by_hand.encode()})

    assert push("unique").returncode == 0

    text = hub.files(UNIQUE)["README.md"].decode()
    assert text.startswith("---\nlicense: mit # mine\n")
    assert f"---\n# Mine\n\n{BEGIN}\n20 rows (train 18, validation 2)" in text
    assert text.endswith(f"{END}\n\nand more\n")


def test_killed_anywhere_leaves_the_old_state_or_the_new(store, hub, tmp_path):
    """SIGKILL at each writing request: no commit in between, and the next push brings the new state."""
    hub.commit(UNIQUE, {TRAIN: b"old", "README.md": b"old"})
    old = hub.files(UNIQUE)
    arguments = [sys.executable, "-m", "kbetl", "push", "unique", "--allow-schema-change"]
    environment = clean_environment(HOME=str(tmp_path), **hub.environment)
    killed_at: list[str] = []
    for point in ("preupload", "PUT", "_lfs_verify", "/commit/"):
        process: list[subprocess.Popen[bytes]] = []

        def kill(request: str, point: str = point, process: list[Any] = process) -> None:
            if point in request and process[0].poll() is None:
                process[0].kill()
                process[0].wait()
                killed_at.append(point)

        hub.watch = kill
        hub.blobs.clear()
        process.append(subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE))
        _, err = process[0].communicate()
        assert process[0].returncode == -9, err
        if point != "/commit/":
            assert hub.files(UNIQUE) == old
            assert len(hub.repos[UNIQUE].commits) == 2
    hub.watch = lambda _request: None
    result = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, check=True)

    assert set(killed_at) == {"preupload", "PUT", "_lfs_verify", "/commit/"}
    assert len(hub.repos[UNIQUE].commits) == 3, "one commit has all of it"
    assert b"unchanged" in result.stdout or b"commit" in result.stdout
    assert pq.read_metadata(pa.BufferReader(hub.files(UNIQUE)[TRAIN])).num_rows == 18


def parquet(**columns: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


CARD = b"""---
dataset_info:
  features:
  - name: prompt
    dtype: string
  - name: uuid
    dtype: string
  splits:
  - name: train
    num_examples: 1
  - name: test
    num_examples: 1
---
"""


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"README.md": CARD}, ["- split test", "- uuid: string", "+ uuid: int64"]),
        (
            {TRAIN: parquet(prompt=["a"], stars=[1])},
            ["- stars: int64", "+ module_name: string", "+ python_code: string"],
        ),
        ({"rows.jsonl": b"{}\n"}, ["- columns that cannot be known, of rows.jsonl"]),
        ({"README.md": b"---\nconfigs:\n- config_name: more\n---\n"}, ["- configuration more"]),
    ],
    ids=["card", "footer", "jsonl", "configuration"],
)
def test_other_schema_is_refused_with_the_difference(push, store, hub, files, lines):
    hub.commit(SYNTHETIC, files)
    before = state(hub)

    result = push("synthetic")

    assert result.returncode == 1
    shown = [line.strip() for line in result.stderr.splitlines()]
    assert shown[0].startswith(f"kbetl: {SYNTHETIC} differs in its schema from what would be pushed")
    assert [line for line in shown if line in lines] == lines
    assert (state(hub), writes(hub)) == (before, [])


def test_other_schema_is_replaced_when_told(push, store, hub):
    """Data files that are no longer wanted go in the same commit; files that are not ours stay."""
    old = "data/test-00000-of-00001.parquet"
    hub.commit(SYNTHETIC, {old: parquet(a=[1]), TRAIN: parquet(a=[1]), "notes.txt": b"mine"})

    result = push("synthetic", "--allow-schema-change")

    assert result.returncode == 0
    assert sorted(hub.files(SYNTHETIC)) == [".gitattributes", "README.md", TRAIN, "notes.txt"]
    assert commits(hub) == 1


def test_dry_run_says_what_would_change_and_sends_nothing(push, store, hub):
    """Neither to the Hub nor into the store."""
    push("unique")
    hub.commit(UNIQUE, {"data/train-00001-of-00002.parquet": b"old", "README.md": None})
    before, sent, kept = state(hub), len(writes(hub)), store.read_bytes()

    result = push("unique", "synthetic", "--dry-run", env={"HF_TOKEN": ""})

    assert result.returncode == 0
    shown = result.stdout.splitlines()
    assert [" ".join(line.split()[:2]) if line.startswith(" ") else line for line in shown] == [
        f"unique: {UNIQUE}, rows train 18, validation 2: would change",
        f"unchanged {TRAIN}",
        "unchanged data/validation-00000-of-00001.parquet",
        "deleted data/train-00001-of-00002.parquet",
        "new README.md",
        f"synthetic: {SYNTHETIC}, rows train 3: would change",
        f"new {TRAIN}",
        "new README.md",
    ]
    assert (state(hub), len(writes(hub)), store.read_bytes()) == (before, sent, kept)
    assert len(runs(store)) == 1


def test_several_sources_do_not_mix_unless_told(push, store, hub):
    with Filling(store) as filling:
        filling.source("more", filling.sample(rollout(60)))

    refused = push("all")
    one = push("evals", "--source", "evals", "--repo", "me/one")
    both = push("evals", "--all-sources", "--repo", "me/both")

    assert refused.returncode == 2
    assert "rollouts of 2 sources: evals, more" in refused.stderr
    assert "rows train 40: commit" in one.stdout
    assert "rows train 41: commit" in both.stdout
    assert sorted(hub.repos) == ["me/both", "me/one"]


def test_names_follow_owner_and_model(push, store, hub, tmp_path):
    """Options, or a table of kbetl.toml."""
    (tmp_path / "kbetl.toml").write_text('[push]\nowner = "me"\nmodel-name = "x1"\n')

    push("evals")
    push("evals", "--owner", "you")

    assert sorted(hub.repos) == ["me/kernelbook-x1-evals", "you/kernelbook-x1-evals"]


def test_private_is_never_public(push, store, hub):
    """A dataset that is public already is not pushed to, where private was asked for."""
    hub.commit(EVALS, {})

    result = push("evals", "--private")

    assert result.returncode == 1
    assert f"{EVALS} is there already and public" in result.stderr
    assert writes(hub) == []


def test_all_leaves_out_what_has_no_rows(push, hub, tmp_path):
    with Filling(tmp_path / "kbetl.db") as filling:
        filling.source("evals", filling.sample(rollout(1)))

    result = push("all")
    none = push("unique")

    assert result.returncode == 0
    assert list(hub.repos) == [EVALS]
    assert sorted(result.stderr.splitlines()) == sorted(
        [f"{name}: no rows, so it is not pushed" for name in ("filtered", "unique", "synthetic", "records")]
        + [UNREAD_REASONING]
    )
    assert (none.returncode, none.stderr) == (
        1,
        "kbetl: unique has no rows, so there is nothing to push; kbetl status says why\n",
    )


@pytest.mark.parametrize(
    "case",
    [
        ([], {}, 2, "kbetl: name a DATASET, or all; there is to push:\n  filtered: 30 rows, to siro1/"),
        (["best"], {}, 2, "kbetl: no dataset 'best'; there is to push:\n  filtered"),
        (["all"], {"TEST_MODE": "true"}, 2, "kbetl: TEST_MODE is set, so nothing is pushed"),
        (["all", "--repo", "a/b"], {}, 2, "kbetl: --repo is for one dataset; 5 are named"),
        (["evals", "--repo", "ab"], {}, 2, "kbetl: 'ab' cannot be a dataset on the Hub; it is OWNER/NAME"),
        (
            ["evals"],
            {"HF_TOKEN": ""},
            1,
            "kbetl: no token for the Hub; make one that may write and set HF_TOKEN",
        ),
        (["evals"], {"HF_TOKEN": "hf_wrong"}, 1, f"kbetl: {EVALS}: the Hub answered 401 (Invalid username"),
        (["evals"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, f"kbetl: {EVALS}: the Hub cannot be reached ("),
        (["evals"], {"HF_HUB_OFFLINE": "1"}, 1, f"kbetl: {EVALS}: HF_HUB_OFFLINE is set"),
        (["evals", "-d", "no.db"], {}, 1, "kbetl: no store at no.db"),
    ],
)
def test_what_cannot_be_pushed_is_said(push, store, hub, case):
    arguments, variables, status, message = case
    result = push(*arguments, env=variables)

    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    assert "hf_wrong" not in result.stderr
    assert hub.repos == {}


COLUMNS: dict[str, list[Any]] = {"prompt": ["a"], "module_name": ["m"], "python_code": ["c"]}
COLUMNS |= {"triton_code": ["t"], "uuid": ["u"]}
SCRIPT = "kernelbook-synthetic-tasks.py"
SECOND = "data/train-00001-of-00002.parquet"
CONFIGS = """---
configs:
- config_name: default
  data_files: {files}
---
"""


def with_info(card: bytes, name: str) -> bytes:
    """Our card, with a second table of `dataset_info`."""
    front = yaml.safe_load(card.decode().split("---\n")[1])
    front["dataset_info"] = [front["dataset_info"], {"config_name": name}]
    return f"---\n{yaml.safe_dump(front)}---\n".encode()


OF_OTHERS: dict[str, tuple[dict[str, bytes | None], str]] = {
    "split, our card": ({"data/test-00000-of-00001.parquet": b"theirs"}, "- split test"),
    "split, no card": (
        {"data/test-00000-of-00001.parquet": parquet(**COLUMNS), "README.md": None},
        "- split test",
    ),
    "split in shards": ({"data/test-00001-of-00002-abc123.parquet": b"theirs"}, "- split test"),
    "shard of our split": ({SECOND: b"theirs"}, f"- file {SECOND}"),
    "file read as our split": ({"data/train-mine.jsonl": b"{}\n"}, "- file data/train-mine.jsonl"),
    "folder read as our split": ({"data/train-2/a.parquet": b"x"}, "- file data/train-2/a.parquet"),
    "loading script": ({SCRIPT: b"import datasets\n"}, f"- file {SCRIPT}"),
    "configuration": (
        {"README.md": b"---\nconfigs:\n- config_name: more\n  data_files: more/*\n---\n"},
        "- configuration more",
    ),
    "default configuration elsewhere": (
        {"README.md": CONFIGS.format(files="rows/*.jsonl").encode()},
        "- data files rows/*.jsonl",
    ),
    "default configuration with a split of its own": (
        {"README.md": CONFIGS.format(files="[{split: test, path: [rows/a.csv]}]").encode()},
        "- split test",
    ),
    "default configuration as a table": (
        {"README.md": CONFIGS.format(files="{test: rows/a.csv}").encode()},
        "- data files rows/a.csv",
    ),
    "folder of data": (
        {"README.md": b"---\nconfigs:\n- config_name: default\n  data_dir: rows\n---\n"},
        "- data files rows/",
    ),
}


@pytest.mark.parametrize("case", OF_OTHERS)
def test_what_others_put_there_is_named_and_stays_until_forced(push, store, hub, case):
    """Nothing is sent; with --force the dataset loads, and holds our rows alone."""
    theirs, line = OF_OTHERS[case]
    assert push("synthetic").returncode == 0
    ours = hub.files(SYNTHETIC)[TRAIN]
    hub.commit(SYNTHETIC, {**theirs, "notes.txt": b"mine"})
    before, sent = state(hub), len(writes(hub))

    refused = push("synthetic")

    assert refused.returncode == 1
    assert line in [each.strip() for each in refused.stderr.splitlines()]
    assert "--force replaces it" in refused.stderr
    assert (state(hub), len(writes(hub))) == (before, sent)

    assert push("synthetic", "--force").returncode == 0
    files = hub.files(SYNTHETIC)
    assert files[TRAIN] == ours
    assert files["notes.txt"] == b"mine"
    assert not [path for path in files if path.startswith("data/train-") and path != TRAIN]
    assert not {SCRIPT, "data/test-00000-of-00001.parquet"} & set(files)


def test_another_table_of_the_card_is_a_configuration_of_others(push, store, hub):
    push("synthetic")
    hub.commit(SYNTHETIC, {"README.md": with_info(hub.files(SYNTHETIC)["README.md"], "more")})
    refused = push("synthetic")
    assert (refused.returncode, "- configuration more" in refused.stderr) == (1, True)


def test_shards_of_the_upload_before_go_without_a_word(push, store, hub):
    """The card tells of them: together they take what it says."""
    push("synthetic")
    files = hub.files(SYNTHETIC)
    halves = {"data/train-00000-of-00002.parquet": files[TRAIN][:40], SECOND: files[TRAIN][40:]}
    hub.commit(SYNTHETIC, {TRAIN: None, **halves})

    assert push("synthetic").returncode == 0
    assert sorted(hub.files(SYNTHETIC)) == [".gitattributes", "README.md", TRAIN]


def test_a_dry_run_lists_what_would_be_deleted(push, store, hub):
    push("synthetic")
    hub.commit(SYNTHETIC, {SCRIPT: b"import datasets\n", SECOND: b"theirs"})
    shown = push("synthetic", "--dry-run").stdout.split()
    assert [shown[index + 1] for index, word in enumerate(shown) if word == "deleted"] == [SECOND, SCRIPT]

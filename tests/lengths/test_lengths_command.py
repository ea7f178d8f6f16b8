"""`kbetl lengths`: which samples, which tokenizer, and what the command says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment
from fill_disk import Filling
from lengths_case import (
    ALL,
    DEMO,
    IGNORES_REASONING,
    LINES,
    ROLLOUTS,
    counted,
    folder,
    rollout,
    said,
)

from kbetl.errors import ConfigError
from kbetl.lengths import Chosen, choose, measure
from kbetl.lengths.tokenizer_files import find

__all__ = ["folder"]


# only what is new


def test_a_second_run_counts_only_what_is_new(store):
    first = counted(store, DEMO, *ROLLOUTS[:3])
    before = store.rows("select * from lengths")
    second = measure(store.store, str(DEMO), ALL)
    third = counted(store, DEMO, ROLLOUTS[3])
    assert [report.measured_now for report in (first, second, third)] == [3, 0, 1]
    assert set(before) < set(store.rows("select * from lengths"))
    assert second.percentiles == first.percentiles


def test_nothing_is_loaded_where_nothing_is_to_count(tmp_path):
    """Neither transformers nor tokenizers are imported by a second run."""
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(LINES))
    code = (
        "import sys; from kbetl.cli import run; status = run(sys.argv[1:]);"
        "print(status, *sorted({'transformers', 'tokenizers', 'jinja2', 'torch', 'rich'} & set(sys.modules)))"
    )

    def last_line(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=clean_environment(HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    assert last_line("ingest", "rows.jsonl") == "0"
    assert last_line("lengths", "--tokenizer", str(DEMO)) == "0 jinja2 tokenizers transformers"
    assert last_line("lengths", "--tokenizer", str(DEMO)) == "0"


def test_another_template_or_vocabulary_is_counted_beside_the_old(store, folder):
    """The same name with other files is another template_hash; the same files elsewhere have the same."""
    made = folder((DEMO / "chat_template.jinja").read_text(encoding="utf-8"))
    first = counted(store, made, ROLLOUTS[0])
    assert first.template_hash == find(str(DEMO)).template_hash
    (made / "chat_template.jinja").write_text(IGNORES_REASONING, encoding="utf-8")
    second = measure(store.store, str(made), ALL)
    (made / "README.md").write_text("not a file that a tokenizer reads", encoding="utf-8")
    third = measure(store.store, str(made), ALL)
    assert second.template_hash != first.template_hash
    assert third.template_hash == second.template_hash
    assert [report.measured_now for report in (first, second, third)] == [1, 1, 0]
    assert store.rows("select count(*) from lengths") == [(2,)]


def test_the_same_files_by_another_name_are_not_counted_again(store, folder):
    """A tokenizer is its template_hash; the store keeps the name that it had first."""
    counted(store, DEMO, ROLLOUTS[0])
    report = counted(store, folder((DEMO / "chat_template.jinja").read_text(encoding="utf-8")), ROLLOUTS[1])
    assert (report.measured_now, report.counts.measured) == (1, 2)
    assert store.rows("select tokenizer, count(*) from lengths group by 1") == [(str(DEMO), 2)]


def test_limit_counts_so_many_and_says_what_is_left(store):
    for row in ROLLOUTS[:5]:
        store.sample(row)
    report = measure(store.store, str(DEMO), ALL, limit=2)
    assert (report.measured_now, report.counts.measured, report.waiting) == (2, 2, 3)
    assert "3 of 5 rollouts are not measured yet" in list(report.left_over())
    assert measure(store.store, str(DEMO), ALL).measured_now == 3


def test_each_run_is_a_run(store):
    counted(store, DEMO, rollout(said()))
    store.module("M")
    measure(store.store, str(DEMO), ALL)
    runs = store.rows(
        "select command, status, counts ->> 'measured_now', counts ->> 'modules' from runs where id > 1"
    )
    assert runs == [("lengths", 0, 1, 0), ("lengths", 0, 0, 1)]


# which samples


def rated(store: Filling) -> dict[str, str]:
    """Two sources with rollouts of the same modules, all rated; gives their hashes."""
    rewards = {"A1": 0.9, "A2": 0.95, "B1": 0.9, "B2": 0.9, "C1": 0.2}
    hashes = {
        name: store.sample({**rollout(said(name)), "module_name": name[0], "reward": reward})
        for name, reward in rewards.items()
    }
    store.source("one", hashes["A1"], hashes["B1"], hashes["C1"])
    store.source("two", hashes["B2"], hashes["A2"])
    task = store.task()
    for sample in hashes.values():
        store.outcome(sample, task, value="low")
    return hashes


@pytest.mark.parametrize(
    ("dataset", "sources", "names"),
    [
        ("samples", (), {"A1", "A2", "B1", "B2", "C1"}),
        ("filtered", (), {"A1", "A2", "B1", "B2"}),
        ("unique", (), {"A2", "B1"}),
        ("samples", ("one",), {"A1", "B1", "C1"}),
        ("filtered", ("two",), {"A2", "B2"}),
        ("unique", ("one",), {"A1", "B1"}),
        ("unique", ("two",), {"A2", "B2"}),
        ("unique", ("one", "two"), {"A2", "B1"}),
    ],
)
def test_sources_come_before_the_rules_of_a_dataset(store, dataset, sources, names):
    """As if the store held those sources alone."""
    hashes = rated(store)
    report = measure(store.store, str(DEMO), choose(store.store, dataset, sources, None))
    found = {name for (name,) in store.rows("select sample_hash from lengths")}
    assert found == {hashes[name] for name in names}
    assert report.counts.measured == report.measured_now == len(names)


def test_the_report_is_about_the_chosen_alone(store):
    hashes = rated(store)
    measure(store.store, str(DEMO), ALL)
    report = measure(store.store, str(DEMO), Chosen("unique"))
    assert report.measured_now == 0
    assert sum(bucket.samples for bucket in report.buckets) == report.counts.rollouts == 2
    longest = store.rows(
        f"select max(total_tokens) from lengths where sample_hash in ('{hashes['A2']}', '{hashes['B1']}')"
    )[0][0]
    assert report.percentiles[-1].total_tokens == longest


@pytest.mark.parametrize("dataset", ["samples", "filtered", "unique"])
def test_the_report_says_what_the_views_say(store, dataset):
    rated(store)
    for row in ROLLOUTS:
        store.sample(row)
    measure(store.store, str(DEMO), ALL)
    report = measure(store.store, str(DEMO), Chosen(dataset))
    where = f"where dataset = '{dataset}'"
    assert store.rows(
        f"select percentile, total_tokens from length_percentiles {where} order by percentile"
    ) == list(report.percentiles)
    buckets = f"{where} and difficulty = 'all' order by over_tokens"
    assert store.rows(
        f"select over_tokens, up_to_tokens, samples, share from length_buckets {buckets}"
    ) == list(report.buckets)
    columns = "limit_tokens, difficulty, samples, samples_over, share_over, tokens_lost, tokens_padding"
    assert set(store.rows(f"select {columns}, share_padding from length_limits {where}")) == set(
        report.limits
    )
    columns = "percentile, total_tokens, seq_len, samples_over, tokens_lost, tokens_padding, share_padding"
    assert store.rows(f"select {columns} from seq_len_advice {where} order by percentile") == list(
        report.advice
    )


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("unique", Chosen("unique")),
        ("samples", Chosen("samples")),
        ("outputs/filtered_dataset.jsonl", Chosen("filtered")),
        ("./outputs/filtered_dataset-filtered.jsonl", Chosen("unique")),
        ("siro1/kernelbook-glm4_7-evals-unique", Chosen("unique")),
        ("mine/filtered.jsonl", Chosen("filtered")),
        ("two", Chosen("samples", ("two",), (2,))),
    ],
)
def test_dataset_path_means_a_dataset_or_a_source(store, monkeypatch, path, chosen):
    monkeypatch.setenv("FILTERED_DATASET_PATH", "mine/filtered.jsonl")
    rated(store)
    assert choose(store.store, None, (), path) == chosen


def test_options_win_over_dataset_path(store):
    rated(store)
    assert choose(store.store, "samples", (), "unique") == Chosen("samples")
    assert choose(store.store, None, ("one",), "unique") == Chosen("samples", ("one",), (1,))


def test_an_unknown_dataset_path_says_what_to_ingest(store):
    with pytest.raises(ConfigError, match=r"DATASET_PATH=some/rows\.jsonl .* kbetl ingest some/rows\.jsonl"):
        choose(store.store, None, (), "some/rows.jsonl")


# which tokenizer


def hub_cache(home: Path, name: str, revision: str, *, leave_out: str = "") -> Path:
    """A cache of the Hub as its client makes it, with the demo's tokenizer; gives the snapshot."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    shutil.copytree(DEMO, snapshot)
    if leave_out:
        (snapshot / leave_out).unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return snapshot


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", ["some/model", "some/model@main", f"some/model@{COMMIT}"])
def test_a_name_on_the_hub_is_taken_from_the_cache(run, tmp_path, name):
    """Without a question to the Hub; the name is kept as given, with the commit in the report."""
    hub_cache(tmp_path, "some/model", COMMIT)
    run("ingest", "-", input=LINES[-1].decode())
    done = run("lengths", "--tokenizer", name, "--json", env={"HF_HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["tokenizer"], report["revision"], report["measured_now"]) == (name, COMMIT, 1)
    assert report["template_hash"] == find(str(DEMO)).template_hash


@pytest.mark.parametrize("leave_out", ["", "chat_template.jinja", "tokenizer.json"])
def test_what_is_not_wholly_cached_is_one_clear_line(run, tmp_path, leave_out):
    if leave_out:
        hub_cache(tmp_path, "some/model", COMMIT, leave_out=leave_out)
    run("ingest", "-", input=LINES[-1].decode())
    done = run("lengths", "--tokenizer", "some/model", env={"HF_HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "some/model" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "folder" in done.stderr


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/else", "a/b/c", "../x", "two words"])
def test_what_is_neither_folder_nor_name_is_wrong_usage(name):
    with pytest.raises(ConfigError, match="neither a folder nor a name on the Hub"):
        find(name)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no tokenizer in this folder"):
        find(str(tmp_path))


def test_a_tokenizer_without_template_is_refused(store, folder):
    made = folder("")
    (made / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        counted(store, made, rollout(said()))
    assert store.rows("select status from runs where command = 'lengths'") == [(2,)]


@pytest.mark.parametrize("text", ["{", "{}", '{"model": {"type": "Nonsense"}}'])
def test_a_broken_tokenizer_is_one_line(store, folder, text):
    made = folder(IGNORES_REASONING)
    (made / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be loaded") as refused:
        counted(store, made, rollout(said()))
    assert "\n" not in str(refused.value)


def test_code_that_comes_with_a_tokenizer_is_not_run(store, folder):
    made = folder(IGNORES_REASONING)
    config = json.loads((made / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    (made / "evil.py").write_text(f"open({str(made / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        counted(store, made, rollout(said()))
    assert not (made / "ran").exists()


# the command


def test_the_command_shows_figures_and_advice(run):
    """Plain text where nobody watches; what was not measured comes first."""
    run("ingest", "-", input="\n".join(line.decode() for line in LINES))
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "12 modules have no completion and are left out"
    assert lines[1].startswith("samples: 18 of 18 rollouts measured, 18 now, with ")
    assert "            tokens  samples  share" in lines
    assert [line.split()[0] for line in lines if line.startswith("  ") and " % " in line] == [
        "99",
        "99.5",
        "100",
    ]
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


def test_the_command_refuses_advice_with_status_3(run, folder):
    run("ingest", "-", input="\n".join(line.decode() for line in LINES))
    done = run("lengths", "--tokenizer", folder(IGNORES_REASONING))
    assert done.returncode == 3
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("completion[0].reasoning of 16 samples does not reach the rendered text")
    assert second.startswith("completion[0].reasoning_content of 1 sample does not reach")
    assert "advice: the sequence length" not in done.stdout


def test_json_is_the_whole_report(run):
    run("ingest", "-", input="\n".join(line.decode() for line in LINES))
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer", "--json", "-q")
    report = json.loads(done.stdout)
    assert report["counts"]["measured"] == 18
    assert report["counts"]["waiting"] == 0
    assert report["modules"] == 12
    assert [each["percentile"] for each in report["percentiles"]] == [50, 75, 90, 95, 99, 99.5, 99.9, 100]
    assert [each["seq_len"] for each in report["advice"]] == [2048, 2048, 2048]
    assert next(each["limit_tokens"] for each in report["limits"] if each["difficulty"] == "all") == 1024


def test_a_missing_store_is_not_made(run, tmp_path):
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer")
    assert done.returncode == 1
    assert "no store at kbetl.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_dataset_gives_no_figures(run):
    run("ingest", "-", input=LINES[0].decode())
    done = run("lengths", "--tokenizer", ROOT / "data" / "tokenizer")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("samples: 0 of 0 rollouts measured, 0 now")

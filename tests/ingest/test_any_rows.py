"""A person's own rows: twelve shapes of the same ten pairs, maps of columns, and one reading per sample."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_case import answer_file, completion, openai_result
from enrich_case import Case, ended, started, until, write_rows
from fake_llm import Asked

from kbetl.errors import BadRow, ConfigError
from kbetl.json_codec import read_json
from kbetl.records import sample_hash
from kbetl.samples.parse import parse_row
from kbetl.samples.reading import field_map, sql_path

pytest_plugins = ["enrich_fixtures"]

PAIRS = [(f"What is {number} plus {number}?", f"It is {2 * number}.") for number in range(10)]
FRONT = """+++
name = "helpfulness"
about = {about}
answer = {{ tag = "helpfulness", min = 1, max = 5, integer = true }}
+++
Rate it from 1 to 5, as <helpfulness>N</helpfulness>.
{template}
"""
RATED = (
    "select samples.hash, cast(outcomes.value as integer) as helpfulness "
    "from outcomes join samples on samples.hash = outcomes.sample_hash order by samples.rowid"
)
QUESTION_MAP = ("--map", "prompt=question", "--map", "completion=answer")
BOTH = "Question: {{ prompt }}\nAnswer: {{ completion }}"


class Shape(NamedTuple):
    """One shape of a file of pairs."""

    row: Callable[[str, str], dict[str, Any]]
    name: str = "rows.jsonl"
    options: tuple[str, ...] = ()
    about: str = "rollout"
    template: str = BOTH


def _turns(question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns}


def _messages(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _alpaca(question: str, answer: str) -> dict[str, Any]:
    return {"instruction": question, "input": "", "output": answer}


SHAPES = {
    "prompt and completion": Shape(lambda q, a: {"prompt": q, "completion": a}),
    "prompt and response": Shape(lambda q, a: {"prompt": q, "response": a}),
    "question and answer": Shape(lambda q, a: {"question": q, "answer": a}, options=QUESTION_MAP),
    "Alpaca JSON": Shape(_alpaca, "rows.json"),
    "Alpaca JSONL": Shape(_alpaca),
    "ShareGPT": Shape(_turns),
    "messages": Shape(_messages),
    "prompts only": Shape(lambda q, _: {"prompt": q}, about="module", template="Question: {{ prompt }}"),
    "text": Shape(lambda q, a: {"text": f"{q}\n{a}"}, about="record", template="{{ text }}"),
    "DPO": Shape(
        lambda q, a: {"prompt": q, "chosen": a, "rejected": "No idea."},
        about="record",
        template="Question: {{ prompt }}\nAnswer: {{ chosen }}",
    ),
    "CSV": Shape(lambda q, a: {"question": q, "answer": a}, "rows.csv", QUESTION_MAP),
    "Parquet with a score": Shape(
        lambda q, a: {"prompt": q, "completion": a, "score": len(a) / 100},
        "rows.parquet",
        ("--map", "reward=score"),
    ),
}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write_rows(path, rows)


def rate(asked: Asked) -> str:
    return f"<helpfulness>{1 + len(asked.prompt) % 5}</helpfulness>"


def task(case: Case, about: str, template: str) -> str:
    quoted = json.dumps(about)
    (case.folder / "task.md").write_text(FRONT.format(about=quoted, template=template))
    return "./task.md"


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_of_ten_pairs_is_rated_in_three_commands(case, name):
    """File, store, model, file: every pair is asked about in the same words, and its rating is a number."""
    shape = SHAPES[name]
    case.llm.content = rate
    write(case.folder / shape.name, [shape.row(*pair) for pair in PAIRS])
    asks = task(case, shape.about, shape.template)
    taken = case.kbetl("ingest", shape.name, *shape.options)
    assert (taken.status, taken.out) == (
        0,
        f"{shape.name}: read 10, new 10, known 0, rejected 0 ({shape.about}s 10)\n",
    )
    assert case.enrich("--task", asks).requests == 10
    dataset = {"rollout": "evals", "record": "records"}.get(shape.about)
    what = ("--sql", RATED) if dataset is None else (dataset, "--with", "helpfulness")
    assert case.kbetl("export", *what, "-o", "rated.parquet").status == 0
    table = pq.read_table(case.folder / "rated.parquet")
    assert table.schema.field("helpfulness").type == pa.int64()
    asked = [each.prompt for each in case.llm.requests]
    assert sorted(1 + len(each) % 5 for each in asked) == sorted(table["helpfulness"].to_pylist())
    assert all(any(question in each for each in asked) for question, _ in PAIRS)
    if "{{ completion }}" in shape.template:
        assert {f"Question: {q}\nAnswer: {a}" for q, a in PAIRS} <= {
            each.partition("\n")[2] for each in asked
        }
    assert case.kbetl("ingest", shape.name).out.endswith(f"new 0, known 10, rejected 0 ({shape.about}s 10)\n")
    assert case.kbetl("check").status == 0
    assert case.enrich("--task", asks).requests == 0


def test_what_an_export_writes_is_read_again_as_the_same_conversation(case):
    """Each format that carries conversations, to and fro."""
    rows = [
        {"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": q}], "completion": a}
        for q, a in PAIRS
    ]
    case.ingest(rows)
    written = {}
    for form in ("messages", "prompt-completion", "sharegpt", "alpaca"):
        assert (
            case.kbetl(
                "export", "evals", "--format", form, "-o", f"{form}.jsonl", "--source", "rows.jsonl"
            ).status
            == 0
        )
        assert case.kbetl("ingest", f"{form}.jsonl").out.endswith("(rollouts 10)\n")
        again = case.kbetl(
            "export", "evals", "--format", "messages", "-o", "again.jsonl", "--source", f"{form}.jsonl"
        )
        assert again.status == 0, again.err
        lines = (case.folder / "again.jsonl").read_text().splitlines()
        written[form] = [json.loads(line)["messages"] for line in lines]
    assert written["messages"][0][0] == {"role": "system", "content": "S"}
    assert all(each == written["messages"] for each in written.values())
    completions = case.rows("select distinct completion from rollouts order by 1")
    assert [text for (text,) in completions] == sorted(a for _, a in PAIRS)


def pairs(case: Case, *options: str, name: str = "rows.jsonl") -> Any:
    return case.ingest([{"question": q, "answer": a, "note": q} for q, a in PAIRS], name, *options)


def test_a_source_alone_is_read_anew_and_what_hangs_on_a_changed_field_is_taken_back(case):
    """Answers stay, so that to map back costs nothing."""
    case.llm.content = rate
    pairs(case, *QUESTION_MAP)
    asks = task(case, "rollout", BOTH)
    assert case.enrich("--task", asks).requests == 10
    other = case.kbetl("ingest", "rows.jsonl", "--map", "prompt=note", "--map", "completion=note")
    assert (other.status, other.out) == (
        0,
        "rows.jsonl: read 10, new 0, known 10, rejected 0 (rollouts 10)\n",
    )
    assert (
        "10 stored samples are read anew; taken back as a field changed: 10 outcomes, 0 lengths" in other.err
    )
    assert case.rows("select count(*) from outcomes") == [(0,)]
    assert case.rows("select count(*), min(completion) from rollouts") == [(10, PAIRS[0][0])]
    assert case.kbetl("ingest", "rows.jsonl", *QUESTION_MAP).status == 0
    back = case.enrich("--task", asks)
    assert (back.requests, case.statuses()) == (0, {"ok": 10})
    assert case.kbetl("check").status == 0
    plain = case.kbetl("ingest", "rows.jsonl", "--map", "none")
    assert plain.out.endswith("(records 10)\n")
    assert case.rows("select count(*) from rollout_facts") == [(0,)]
    assert case.rows("select field_map from sources") == [(None,)]
    assert case.kbetl("check").status == 0


def test_outcomes_that_hang_on_no_changed_field_stay(case):
    case.llm.content = rate
    pairs(case, *QUESTION_MAP)
    assert case.enrich("--task", task(case, "rollout", "Answer: {{ completion }} {{ note }}")).requests == 10
    again = case.kbetl("ingest", "rows.jsonl", "--map", "prompt=note", "--map", "completion=answer")
    assert "taken back as a field changed: 0 outcomes" in again.err
    assert case.statuses() == {"ok": 10}


def test_a_task_without_any_label_left_is_out_of_use(case):
    """With its view, and it is said; mapped back, its answers bring it into use again."""
    case.llm.content = rate
    pairs(case, *QUESTION_MAP)
    asks = task(case, "rollout", BOTH)
    assert case.enrich("--task", asks).status == 0
    half = ("--map", "prompt=question", "--map", "completion=note")
    assert "not in use any more" not in pairs(case, *half, "-n", "9").err
    assert case.rows("select in_use from tasks") == [(1,)]
    taken = pairs(case, *half)
    assert "helpfulness: no label of m (t1:" in taken.err
    assert case.rows("select in_use from tasks") == [(0,)]
    assert case.rows("select name from sqlite_schema where name = 'task_helpfulness'") == []
    refused = case.kbetl("export", "evals", "-o", "x.jsonl", "--where", "helpfulness > 1")
    assert (refused.status, "the task helpfulness has no label yet" in refused.err) == (2, True)
    pairs(case, *QUESTION_MAP)
    back = case.enrich("--task", asks)
    assert (back.requests, "from now on" in back.err) == (0, True)
    assert case.rows("select count(*) from task_helpfulness") == [(10,)]


def test_what_a_batch_file_asked_before_is_no_label_of_the_new_reading(case):
    """Its answer is stored, and settles the sample once the map is the old one again, for nothing."""
    pairs(case, *QUESTION_MAP)
    asks = task(case, "rollout", BOTH)
    assert case.kbetl("batch", "write", "enrich", "out", "--task", asks, "-m", "m").status == 0
    (source,) = (case.folder / "out").iterdir()
    said = completion("<helpfulness>3</helpfulness>")
    answer_file(source, case.folder / "results.jsonl", lambda asked: openai_result(asked, said))
    pairs(case, "--map", "prompt=question", "--map", "completion=note")
    read = case.kbetl("batch", "read", "results.jsonl")
    assert (read.status, case.rows("select count(*) from answers")) == (0, [(10,)])
    assert case.rows("select count(*) from outcomes") == [(0,)]
    pairs(case, *QUESTION_MAP)
    assert case.enrich("--task", asks, model="m").requests == 0
    assert case.rows("select value, count(*) from task_helpfulness group by 1") == [(3, 10)]


def test_no_sample_is_read_anew_while_a_task_is_asked(case):
    """Its answer would be a label of the new reading: exit 1. What is read as before comes in."""
    answers = threading.Event()
    case.llm.content = lambda asked: rate(asked) if answers.wait(20) else ""
    pairs(case, *QUESTION_MAP)
    asks = task(case, "rollout", BOTH)
    with started(case.folder, "enrich", "--task", asks, "-m", "m", "-b", case.llm.url) as process:
        until(lambda: case.llm.requests)
        refused = pairs(case, "--map", "prompt=question", "--map", "completion=note")
        beside = pairs(case, *QUESTION_MAP)
        answers.set()
        assert ended(process).status == 0
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == (
        "kbetl: another process is asking about helpfulness in kbetl.db, and stored samples would be read "
        "anew; wait for it, or end it\n"
    )
    assert (beside.status, beside.out.split(": ")[1]) == (
        0,
        "read 10, new 0, known 10, rejected 0 (rollouts 10)\n",
    )
    assert case.rows(
        "select count(*) from rollouts join task_helpfulness using (sample_hash) "
        "where completion like 'It is%'"
    ) == [(10,)]


@pytest.mark.parametrize("field", ["env_id", "info"])
def test_a_field_that_a_map_writes_is_one_that_changed(case, field):
    """Whatever the template calls it."""
    case.llm.content = rate
    rows = [
        {"completion": a, "env_id": "one", "info": {"module_name": "One"}, "note": "Two"} for _, a in PAIRS
    ]
    case.ingest(rows)
    assert (
        case.enrich("--task", task(case, "rollout", f"{{{{ {field} }}}} {{{{ completion }}}}")).requests == 10
    )
    maps = ("--map", "environment=note", "--map", "module_name=note")
    assert "as a field changed: 10 outcomes" in case.kbetl("ingest", "rows.jsonl", *maps).err


def test_samples_of_another_source_are_never_read_otherwise(case):
    """Exit 2 before anything is stored, with the count and the name."""
    pairs(case, name="first.jsonl")
    dump = "select * from runs, sources, samples order by 1, 2, 3"
    before = case.rows(dump)
    for name in ("second.jsonl", "third.jsonl"):
        refused = pairs(case, *QUESTION_MAP, name=name)
        assert (refused.status, refused.out) == (2, "")
        assert (
            f"kbetl: {name}: 10 of its samples are stored as source first.jsonl reads them (no map)"
            in refused.err
        )
    assert case.rows(dump) == before
    assert pairs(case, name="second.jsonl").status == 0
    assert case.rows("select count(*) from samples") == [(10,)]


def test_a_source_keeps_its_map(case):
    """A plain ingest of it reads as before; the map is no part of a sample's identity."""
    pairs(case, *QUESTION_MAP)
    ((kept,),) = case.rows("select field_map from sources")
    assert json.loads(kept) == {"prompt": "question", "completion": "answer"}
    more = [*PAIRS, ("Why?", "Because.")]
    again = case.ingest([{"question": q, "answer": a, "note": q} for q, a in more])
    assert again.out == "rows.jsonl: read 11, new 1, known 10, rejected 0 (rollouts 11)\n"
    assert "rows.jsonl: read by the map completion=answer, prompt=question" in again.err
    (first,) = case.rows("select hash from samples order by rowid limit 1")[0]
    assert first == sample_hash({"question": PAIRS[0][0], "answer": PAIRS[0][1], "note": PAIRS[0][0]})


def test_a_map_in_the_file_is_the_map_of_the_command(case):
    (case.folder / "kbetl.toml").write_text('[ingest.map]\nprompt = "question"\ncompletion = "answer"\n')
    assert pairs(case).out.endswith("(rollouts 10)\n")


def test_reasoning_group_model_and_the_rest_are_read_where_the_map_says(case):
    rows = [
        {
            "q": f"q {n}",
            "a": f"a {n}",
            "why": f"w {n}",
            "by": "m",
            "in": "e",
            "team": n % 3,
            "data": {"r": [n, n / 10]},
        }
        for n in range(12)
    ]
    names = (
        "prompt=q",
        "completion=a",
        "reasoning=why",
        "model=by",
        "environment=in",
        "group=team",
        "reward=data.r.1",
    )
    case.ingest(rows, "rows.jsonl", *(part for each in names for part in ("--map", each)))
    found = case.rows(
        "select completion, reasoning, model, environment, rollouts.reward from rollouts "
        "join samples on hash = sample_hash order by samples.rowid"
    )
    assert found == [(f"a {n}", f"w {n}", "m", "e", n / 10) for n in range(12)]
    sides = case.rows(
        "select row ->> '$.team', count(distinct split), count(distinct code_point) "
        "from splits join samples on hash = sample_hash group by 1"
    )
    assert sides == [(team, 1, 1) for team in range(3)]
    assert case.kbetl("export", "evals", "--format", "messages", "-o", "x.jsonl").status == 0
    first = json.loads((case.folder / "x.jsonl").read_text().splitlines()[0])
    assert first["messages"] == [
        {"role": "user", "content": "q 0"},
        {"role": "assistant", "content": "a 0", "reasoning_content": "w 0"},
    ]
    assert case.kbetl("check").status == 0


def test_what_code_shows_is_read_where_the_map_says(case):
    """Flags and pairs are those of the same rows under the usual names; a new map forgets flags."""
    module = (
        "import torch\nclass {0}(torch.nn.Module):\n    def forward(self, x):\n        return torch.{0}(x)\n"
    )
    names = ("completion", "module_name", "python_code")
    usual = [
        dict(
            zip(
                names,
                (f"```python\n{code.replace(f'class {name}', f'class {name}New')}```", name, code),
                strict=True,
            )
        )
        for name, code in ((name, module.format(name)) for name in ("relu", "tanh"))
    ]
    mapped = [{"a": row["completion"], "n": row["module_name"], "c": row["python_code"]} for row in usual]
    write_rows(case.folder / "bench.jsonl", [{"name": "x", "code": usual[1]["python_code"]}])
    maps = [part for name, key in zip(names, "anc", strict=True) for part in ("--map", f"{name}={key}")]
    found = []
    for rows, options in ((usual, []), (mapped, maps)):
        case.ingest(rows, "rows.jsonl", *options)
        assert case.kbetl("hacks").status == 0
        assert case.kbetl("contamination", "--against", "bench.jsonl").status == 0
        found.append(
            [
                case.rows(
                    "select module_name, flags from hacks join source_samples using (sample_hash) order by 1"
                ),
                case.rows(
                    "select flag, line, evidence from hack_flags "
                    "join source_samples using (sample_hash) order by 1, 2, 3"
                ),
                case.rows("select how, problem from contamination join source_samples using (sample_hash)"),
                case.kbetl("contamination", "review").out,
            ]
        )
        (case.folder / "kbetl.db").rename(case.folder / "before.db")
    assert found[0] == found[1]
    assert all(found[0])
    (case.folder / "before.db").rename(case.folder / "kbetl.db")
    other = [part for part in maps if part != "completion=a"]
    assert case.kbetl("ingest", "rows.jsonl", *other[1:], "--map", "completion=n").status == 0
    assert case.rows("select distinct worst from hacks") == [("unchecked",)]


@pytest.mark.parametrize("key", ["café", "a\\b", "<a>", "a b-1"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_key_is_found_however_the_file_spells_it(case, key, is_ascii):
    """With escapes or without, of text and of messages."""
    said = [{"role": "assistant", "content": "b", "reasoning": "why"}]
    rows = [{"q": "1", "in": {key: "a"}}, {"q": "2", "in": {key: said}}]
    text = "".join(json.dumps(row, ensure_ascii=is_ascii) + "\n" for row in rows)
    (case.folder / "rows.jsonl").write_text(
        text.replace("<", "\\u003c") if is_ascii else text, encoding="utf-8"
    )
    assert (
        case.kbetl("ingest", "rows.jsonl", "--map", f"completion=in.{key}", "--map", "prompt=q").status == 0
    )
    assert case.rows("select completion, reasoning from rollouts order by 1") == [("a", None), ("b", "why")]
    assert case.kbetl("check").status == 0


def test_rows_that_lack_a_mapped_field_are_counted(case):
    rows = [{"question": q, "answer": a} for q, a in PAIRS]
    del rows[3]["answer"]
    taken = case.ingest(rows, "rows.jsonl", *QUESTION_MAP)
    assert "rows.jsonl: 1 row lacks the field mapped to completion" in taken.err
    assert taken.out.endswith("(modules 1, rollouts 9)\n")


def test_rows_from_a_pipe_are_read_by_a_map(case, monkeypatch):
    """They cannot be read twice, and are looked at before anything is stored."""
    import io
    import sys

    text = "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in PAIRS)
    for status, path in ((2, "reply"), (0, "answer")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert case.kbetl("ingest", "-", "--map", f"completion={path}").status == status
        assert (case.folder / "kbetl.db").exists() is (status == 0)
    assert case.rows("select count(*) from rollouts") == [(10,)]


REFUSED = {
    "two maps for one name": (
        ["--map", "prompt=a", "--map", "prompt=b"],
        "--map prompt is given twice: 'a' and 'b'",
    ),
    "a path that no row has": (
        ["--map", "prompt=qestion"],
        "--map prompt=qestion: no row has 'qestion'; they have ",
    ),
    "a name that is none": (
        ["--map", "answer=a"],
        "--map 'answer=a': write NAME=PATH, with a NAME of prompt, ",
    ),
    "no path": (["--map", "prompt="], "--map 'prompt=': a PATH is keys with dots between"),
    "code whose key may be spelled otherwise": (
        ["--map", "python_code=café"],
        "--map 'python_code=café': the keys of code are of ASCII letters",
    ),
    "a path with quotes": (["--map", 'prompt=a".b'], "a PATH is keys with dots between"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_map_that_cannot_be_is_one_line_and_changes_nothing(case, what):
    options, reason = REFUSED[what]
    refused = pairs(case, *options)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert reason in refused.err
    assert not (case.folder / "kbetl.db").exists()


def test_a_task_about_rollouts_over_records_says_what_to_map(case):
    taken = pairs(case)
    assert "10 records have the fields question, answer, note; to use them as rollouts: " in taken.err
    assert "--map completion=answer --map prompt=question" in taken.err
    runs = case.rows("select count(*) from runs")
    refused = case.enrich("--task", task(case, "rollout", BOTH))
    assert (refused.status, refused.out, refused.requests) == (2, "", 0)
    assert refused.err == (
        "kbetl: there is no rollout in kbetl.db, but 10 records: say where the completion is, "
        'kbetl ingest SOURCE --map completion=FIELD, or let the task be about "record"\n'
    )
    assert case.rows("select count(*) from runs") == runs


def test_records_are_a_dataset(case):
    """Export gives each row back as it was; status and source_counts know them."""
    pairs(case)
    exported = case.kbetl("export", "records", "-o", "x.jsonl")
    assert exported.status == 0, exported.err
    assert (case.folder / "x.jsonl").read_text() == (case.folder / "rows.jsonl").read_text()
    assert case.rows("select count(*) from records") == [(10,)]
    assert case.rows("select records, rollouts, modules from source_counts") == [(10, 0, 0)]
    assert "10 records" in case.kbetl("status").out
    counted = case.kbetl("lengths", "--tokenizer", Path(__file__).parents[2] / "data" / "tokenizer")
    assert "10 records have no completion and are left out" in counted.text
    refused = case.kbetl("export", "records", "-o", "x.jsonl", "--format", "messages")
    assert (refused.status, "records has no completions" in refused.err) == (2, True)


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "any object": ({"a": 1}, "record"),
    "a name and a code of another sort": ({"name": "Jo", "code": 7, "info": "x"}, "record"),
    "a pair with a prompt": ({"prompt": "q", "chosen": "a", "rejected": "b"}, "record"),
    "code without a name": ({"python_code": "x = 1"}, "record"),
    "code in info alone": ({"info": {"module_name": "A", "python_code": "a"}}, "record"),
    "code and a name": ({"python_code": "x = 1", "module_name": "A"}, "module"),
    "messages without an answer": ({"messages": [{"role": "user", "content": "q"}]}, "module"),
    "a prompt with a reference": ({"prompt": "q", "answer": "42"}, "module"),
    "no completion yet": ({"prompt": "q", "completion": None}, "module"),
    "an empty completion": ({"completion": []}, "rollout"),
    "an Alpaca row with a system prompt": ({"instruction": "q", "output": "a", "system": "s"}, "rollout"),
}


@pytest.mark.parametrize("what", KINDS)
def test_kind_of_a_row(what):
    row, kind = KINDS[what]
    assert parse_row(read_json(json.dumps(row).encode())).kind == kind


BROKEN: dict[str, tuple[Any, str]] = {
    "a reward that is no number": ({"text": "a", "reward": "good"}, "field 'reward' is text"),
    "messages that are none": ({"messages": ["a"]}, "field 'messages[0]' is text, not a message"),
    "messages without roles": (
        {"messages": [{"text": "a"}]},
        "field 'messages[0]' is no message with a role",
    ),
    "a speaker that is none": ({"conversations": [{"from": "x", "value": "a"}]}, 'is from "x"'),
    "a module without code": ({"module_name": "A", "python_code": " "}, "a module without code"),
    "a table": ({"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}, "a table in one object?"),
    "no object": ([1], "not an object with fields"),
    "nothing": ({}, "an object without fields"),
    "a trace": ({"traces": [], "id": "x"}, "a verifiers trace"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_rejected(what):
    row, reason = BROKEN[what]
    with pytest.raises(BadRow) as raised:
        parse_row(read_json(json.dumps(row).encode()))
    assert reason in str(raised.value)


def test_a_map_is_read_and_spelled():
    assert field_map(["prompt=a.0.b", " completion = c "]) == {"prompt": "a.0.b", "completion": "c"}
    assert sql_path("a.0.b") == '$."a"[0]."b"'
    with pytest.raises(ConfigError, match="given twice"):
        field_map(["prompt=a", "prompt=a"])

"""Task files: what they may say, what is asked, and what makes the identity of a task."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from kbetl.errors import ConfigError, MissingField
from kbetl.json_codec import read_json
from kbetl.tasks import Json, Label, Number, Task, Text, builtin_names, format_from_spec, load_task

MODEL = "openai/gpt-5.2"
FRONT = """+++
name = "style"
about = "module"
answer = { tag = "style" }
"""


def task_of(tmp_path: Path, template: str, front: str = FRONT) -> Task:
    path = tmp_path / "style.md"
    path.write_text(f"{front}+++\n{template}", encoding="utf-8", newline="")
    return load_task(str(path))


def asked(task: Task, row: dict[str, object], reward: float | None = None) -> str:
    messages = task.messages(row, reward)
    assert [message["role"] for message in messages] == ["user"]
    return messages[0]["content"]


# What ships


def test_builtin_difficulty_is_as_documented() -> None:
    task = load_task("difficulty")
    assert (task.name, task.about, task.where) == ("difficulty", ("rollout",), "reward > :min_reward")
    assert task.answer_format == Label("difficulty", ("low", "medium", "high"))
    assert task.parameters == {"max_tokens": 256, "temperature": 0.1}
    assert (task.system, task.closing) == (None, None)


def test_builtin_prompts_is_as_documented() -> None:
    task = load_task("prompts")
    assert (task.name, task.about, task.where) == ("prompts", ("module",), None)
    assert task.answer_format == Text("specification")
    assert task.parameters == {"max_tokens": 32768, "temperature": 0.3}
    assert task.closing == (
        "\n\nOutput ONLY valid Python code between the markers below.\n\nBEGIN_PYTHON\nEND_PYTHON\n"
    )


def test_builtin_names_are_the_files_that_ship() -> None:
    assert builtin_names() == ["difficulty", "kernels", "prompts"]


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("difficulty", "t1:da369632c8f7e9009077412a490532f2ed22caa86ef58a4e24b2798d22f68b6a"),
        ("prompts", "t1:b69050bc335a1d827415275159ac55255caf497cf68993ee78bc97b065d9bd38"),
    ],
)
def test_hash_of_a_builtin_task_is_pinned(name: str, golden: str) -> None:
    """A changed template or parameter makes a new task, which is asked and paid for anew: on purpose only."""
    assert load_task(name).hash(MODEL) == golden


def test_builtin_tasks_show_the_fields_and_leave_no_template_syntax() -> None:
    row = {
        "info": {"module_name": "Relu", "python_code": "class Relu: pass"},
        "completion": [{"role": "assistant", "content": "class ReluNew: pass"}],
    }
    difficulty = asked(load_task("difficulty"), row, 0.9)
    prompts = asked(load_task("prompts"), row, None)
    assert "\nRelu\n" in difficulty
    assert "\nclass Relu: pass\n" in difficulty
    assert "\nclass ReluNew: pass\n" in difficulty
    assert "`ReluNew`" in prompts
    assert "\nclass Relu: pass\n" in prompts
    assert "{{" not in difficulty + prompts


# Identity


@pytest.mark.parametrize(
    "change",
    [
        ('name = "style"', 'name = "other"'),
        ("Rate it", "Rate this"),
        ('answer = { tag = "style" }\n', 'answer = { tag = "style" }\nsystem = "Be brief."\n'),
        ('answer = { tag = "style" }\n', 'answer = { tag = "style" }\n[parameters]\nseed = 1\n'),
    ],
)
def test_hash_changes_with_what_the_model_sees(tmp_path: Path, change: tuple[str, str]) -> None:
    before = FRONT + "+++\nRate it: {{ python_code }}\n"
    assert change[0] in before
    path = tmp_path / "style.md"
    hashes = []
    for text in (before, before.replace(*change)):
        path.write_text(text)
        hashes.append(load_task(str(path)).hash(MODEL))
    assert hashes[0] != hashes[1]


def test_hash_changes_with_the_model() -> None:
    assert load_task("prompts").hash("a/b") != load_task("prompts").hash("a/c")


def test_hash_leaves_out_which_samples_and_how_the_answer_is_read(tmp_path: Path) -> None:
    other = FRONT.replace('"module"', '"rollout"').replace('tag = "style"', 'tag = "x", min = 0, max = 9')
    plain = task_of(tmp_path, "Rate it: {{ python_code }}")
    changed = task_of(
        tmp_path, "Rate it: {{ python_code }}", other + 'where = "reward > 1"\nclosing = "End."\n'
    )
    assert plain != changed
    assert plain.hash(MODEL) == changed.hash(MODEL)


def test_line_ends_and_byte_order_mark_of_an_editor_are_not_part_of_the_prompt(tmp_path: Path) -> None:
    plain = task_of(tmp_path, "One\n\n  Two: {{ python_code }}\n")
    path = tmp_path / "windows.md"
    path.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "style.md").read_bytes().replace(b"\n", b"\r\n"))
    assert plain.template == "One\n\n  Two: {{ python_code }}"
    assert load_task(str(path)).hash(MODEL) == plain.hash(MODEL)


def test_with_parameters_replaces_adds_and_removes() -> None:
    task = load_task("difficulty")
    changed = task.with_parameters({"max_tokens": 1024, "temperature": None, "seed": 7})
    assert changed.parameters == {"max_tokens": 1024, "seed": 7}
    assert task.parameters == {"max_tokens": 256, "temperature": 0.1}
    assert changed.hash(MODEL) != task.hash(MODEL)
    assert task.with_parameters({"max_tokens": 256}).hash(MODEL) == task.hash(MODEL)


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n"])
def test_with_parameters_refuses_what_is_not_the_tasks(name: str) -> None:
    with pytest.raises(ConfigError, match=f"parameter '{name}' cannot be set"):
        load_task("difficulty").with_parameters({name: 1})


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}, "\udc80", {1, 2}])
def test_with_parameters_refuses_what_json_cannot_carry(value: object) -> None:
    with pytest.raises(ConfigError, match=r"parameters\.seed"):
        load_task("difficulty").with_parameters({"seed": value})


@pytest.mark.parametrize(
    ("answer", "reader", "spec"),
    [
        ('{ tag = "a" }', Text("a"), '{"tag":"a"}'),
        ('{ one_of = ["x", "y"], tag = "a" }', Label("a", ("x", "y")), '{"one_of":["x","y"],"tag":"a"}'),
        ('{ tag = "a", min = 0.0, max = 10 }', Number("a", 0, 10), '{"max":10,"min":0,"tag":"a"}'),
        ('{ json = { type = "object" } }', Json({"type": "object"}), '{"json":{"type":"object"}}'),
    ],
)
def test_each_form_of_reader_comes_back_from_its_spec(
    tmp_path: Path, answer: str, reader: object, spec: str
) -> None:
    task = task_of(tmp_path, "x", FRONT.replace('{ tag = "style" }', answer))
    assert task.answer_format == reader
    assert task.format_spec == spec
    assert format_from_spec(spec) == reader


def test_parser_version_is_that_of_code_and_reader() -> None:
    assert load_task("difficulty").parser_version == "2:872f7e5eaf3f"
    assert load_task("prompts").parser_version == "2:c5971da0e8c0"


@pytest.mark.parametrize("spec", ["", "7", "{}", '{"tag":"a","new":1}', "\udc80"])
def test_a_stored_reader_that_is_not_known_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="stored reader"):
        format_from_spec(spec)


# Rendering


@pytest.mark.parametrize(
    "text",
    ["{{ triton_code }}", "{{x}}", "{x}", "{% for %}", "}}{{", r"\1 \g<0> \n", "{{ python_code }}", "\x1b["],
)
def test_template_syntax_in_data_stays_as_it_is(tmp_path: Path, text: str) -> None:
    task = task_of(tmp_path, "a {{ python_code }} b {{ module_name }} c")
    row = {"python_code": text, "module_name": "{{ python_code }}", "triton_code": "SECRET"}
    assert asked(task, row) == f"a {text} b {{{{ python_code }}}} c"


def test_the_six_names_and_paths_into_the_row(tmp_path: Path) -> None:
    task = task_of(
        tmp_path,
        "{{module_name}}|{{ python_code }}|{{triton_code}}|{{reward}}|{{completion}}|{{reasoning}}|"
        "{{ info.level }}|{{ prompt.1.content }}|{{ metrics.speed-up }}",
    )
    row = {
        "info": {"name": "Net", "pytorch_code": "P", "level": 2},
        "triton_code": "T",
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "completion": [
            {"role": "assistant", "content": "first", "reasoning": "think"},
            {"role": "user", "content": "again"},
            {"role": "assistant", "content": "last"},
        ],
        "metrics": {"speed-up": 1.25},
    }
    assert asked(task, row, 0.5) == "Net|P|T|0.5|last|think|2|u|1.25"


def test_a_row_key_does_not_replace_what_a_name_means(tmp_path: Path) -> None:
    row = {"module_name": "Outer", "info": {"module_name": "Inner"}}
    assert asked(task_of(tmp_path, "{{ module_name }}"), row) == "Inner"


def test_reward_is_the_newest_else_the_rows_own(tmp_path: Path) -> None:
    task = task_of(tmp_path, "{{ reward }}")
    assert asked(task, {"reward": 0.25}, 1.0) == "1"
    assert asked(task, {"reward": 0.25}, None) == "0.25"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (True, "true"),
        ("", ""),
        ([1.0, None, "é"], '[1,null,"é"]'),
        ({"b": 2.0, "a": {"n": None, "x": [{"y": None}]}}, '{"b":2,"a":{"x":[{}]}}'),
        (10**30, "1" + "0" * 30),
    ],
)
def test_values_that_are_not_text_are_compact_json(tmp_path: Path, value: object, text: str) -> None:
    assert asked(task_of(tmp_path, "{{ extra.value }}"), {"extra": {"value": value}}) == text


def test_the_same_row_renders_alike_from_jsonl_and_from_arrow(tmp_path: Path) -> None:
    """Arrow turns 1 into 1.0 and adds null keys; the question, and so what is paid for, stays the same."""
    lines = ['{"m":{"a":1,"b":0.5},"l":[{"x":1}]}', '{"m":{"a":0.5,"c":"z"},"l":[{"y":"k"}]}']
    rows = [read_json(line.encode()).value for line in lines]
    arrow = pa.Table.from_pylist(rows).to_pylist()
    assert arrow[0] != rows[0]
    task = task_of(tmp_path, "{{ m }} {{ m.a }} {{ l }}")
    assert [asked(task, row) for row in arrow] == [asked(task, row) for row in rows]
    assert asked(task, rows[0]) == '{"a":1,"b":0.5} 1 [{"x":1}]'


def test_info_kept_as_json_text_renders_like_the_object(tmp_path: Path) -> None:
    task = task_of(tmp_path, "{{ info }} {{ info.level }}")
    info = {"level": 3, "name": "Net"}
    assert (
        asked(task, {"info": json.dumps(info)}) == asked(task, {"info": info}) == '{"level":3,"name":"Net"} 3'
    )


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("triton_code", {"b": 1, "a": None, "c": 2}, "field 'triton_code' is missing; the row has b, c"),
        ("python_code", {"python_code": " \n"}, "field 'python_code' is blank; the row has python_code"),
        ("completion", {"completion": []}, "field 'completion' is missing; the row has completion"),
        ("reward", {}, "field 'reward' is missing; the row is empty"),
        ("info.level", {"info": {"level": None}}, "field 'info.level' is missing; the row has info"),
        ("prompt.2.content", {"prompt": []}, "field 'prompt.2.content' is missing; the row has prompt"),
        ("prompt.x", {"prompt": "text"}, "field 'prompt.x' is missing; the row has prompt"),
        ("l.²", {"l": [1]}, None),
        (
            "python_code",
            {"python_code": 7},
            "field 'python_code' cannot be read: field 'python_code' is a number, not text",
        ),
        (
            "python_code",
            {"info": '{"python_code": "\\ud800"}'},
            "field 'python_code' holds a lone surrogate: not Unicode text",
        ),
    ],
)
def test_a_field_that_the_sample_lacks_stops_it_by_name(
    tmp_path: Path, name: str, row: dict[str, object], reason: str | None
) -> None:
    if reason is None:
        with pytest.raises(ConfigError, match="is no name"):
            task_of(tmp_path, f"{{{{ {name} }}}}")
        return
    task = task_of(tmp_path, f"{{{{ {name} }}}}")
    with pytest.raises(MissingField) as caught:
        task.messages(row, None)
    assert str(caught.value) == reason


def test_row_keys_in_a_reason_are_inert_and_few(tmp_path: Path) -> None:
    row = {"\x1b[31m\n": 1, **{f"k{number}": 1 for number in range(30)}}
    with pytest.raises(MissingField) as caught:
        task_of(tmp_path, "{{ reasoning }}").messages(row, None)
    assert str(caught.value).startswith("field 'reasoning' is missing; the row has \\x1b[31m\\n, k0, k1,")
    assert str(caught.value).endswith("k18 and 11 more")


def test_fields_are_those_of_the_template_and_what_the_offline_model_reads(tmp_path: Path) -> None:
    task = task_of(tmp_path, "{{ info.level }} {{ reward }}")
    row = {"info": {"level": 1}, "module_name": "Net", "python_code": "P", "triton_code": "T"}
    assert task.fields(row, 0.9) == {
        "info.level": "1",
        "reward": "0.9",
        "module_name": "Net",
        "python_code": "P",
    }
    assert task.fields({"info": {"level": 1}, "python_code": ""}, 0.9) == {"info.level": "1", "reward": "0.9"}


def test_a_system_prompt_goes_first(tmp_path: Path) -> None:
    task = task_of(tmp_path, "Rate {{ python_code }}", FRONT + 'system = "Be brief."\n')
    assert task.messages({"python_code": "P"}, None) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rate P"},
    ]


def test_braces_that_are_no_field_stay_in_the_template(tmp_path: Path) -> None:
    assert asked(task_of(tmp_path, 'Answer {"a": {"b": 1}} {% x %}'), {}) == 'Answer {"a": {"b": 1}} {% x %}'


# What is refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: no front matter"),
        ("Just a prompt", "line 1: no front matter"),
        ("+++\nname = 'x'\n", "front matter is not closed"),
        (FRONT + "+++\n", "line 5: no prompt template"),
        (FRONT + "+++\n \n\n", "line 5: no prompt template"),
        (FRONT + "oops\n+++\nx", "not TOML: .*at line 5"),
        (FRONT + "colour = 1\n+++\nx", "unknown key 'colour'"),
        (FRONT + "max_tokens = 1\n+++\nx", r"unknown key 'max_tokens'.*below \[parameters\]"),
        (FRONT.replace('name = "style"\n', "") + "+++\nx", "key 'name' is missing"),
        (FRONT.replace('about = "module"\n', "") + "+++\nx", "key 'about' is missing"),
        (FRONT.replace('answer = { tag = "style" }\n', "") + "+++\nx", "key 'answer' is missing"),
        (FRONT.replace('"style"\nabout', '"Style"\nabout') + "+++\nx", "key 'name' is 'Style'"),
        (FRONT.replace('"style"\nabout', f'"{"a" * 65}"\nabout') + "+++\nx", "key 'name' is"),
        (FRONT.replace('"style"\nabout', "7\nabout") + "+++\nx", "key 'name' is 7"),
        (
            FRONT.replace('"module"', '"kernel"') + "+++\nx",
            "key 'about' is 'kernel'; it is one of module, rollout, record, or a list of some",
        ),
        (FRONT.replace('"module"', '["module", "kernel"]') + "+++\nx", "key 'about' is"),
        (FRONT.replace('"module"', "[]") + "+++\nx", "key 'about' is"),
        (FRONT + "where = 1\n+++\nx", "key 'where' is an integer, not text"),
        (FRONT + "where = ' '\n+++\nx", "key 'where' is blank"),
        (FRONT + "system = ['a']\n+++\nx", "key 'system' is a list, not text"),
        (FRONT + "system = 'On {{ module_name }}'\n+++\nx", "key 'system' has '{{'"),
        (FRONT + "closing = 1.5\n+++\nx", "key 'closing' is a float, not text"),
        (FRONT + "parameters = 1\n+++\nx", "key 'parameters' is an integer, not a table"),
        (FRONT + "[parameters]\nn = 2\n+++\nx", "parameter 'n' cannot be set"),
        (FRONT + "[parameters]\nmodel = 'm'\n+++\nx", "parameter 'model' cannot be set"),
        (FRONT + "[parameters]\nwhere = 'reward > 1'\n+++\nx", r"key 'where' stands below \[parameters\]"),
        (FRONT + "[parameters]\nday = 2026-11-01\n+++\nx", r"parameters\.day is a date"),
        (FRONT + "[parameters]\nx = { y = [12:00:00] }\n+++\nx", r"parameters\.x\.y\[0\] is a time"),
        (FRONT + "[parameters]\ntop_p = nan\n+++\nx", r"parameters\.top_p is nan"),
        (FRONT + "+++\na\nb {{ module_name\nc", "line 7: '{{' without '}}'"),
        (FRONT + "+++\na {{ b\n}} {{ c + d }}", "line 7: 'c [+] d' between"),
        (FRONT + "+++\n{{}}", "line 6: '' between"),
        (FRONT + "+++\n{{{ name }}}", "is no name"),
        (FRONT + "+++\n{{ name. }}", "is no name"),
        (FRONT + "+++\n{{ name | upper }}", "is no name"),
    ],
)
def test_a_task_file_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "style.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as caught:
        load_task(str(path))
    assert str(caught.value).startswith(f"task file {path}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("'difficulty'", "key 'answer' is text, not a table"),
        ("{}", "no key; it takes {tag}, {tag, one_of}"),
        ("{ one_of = ['a', 'b'] }", "has one_of; it takes"),
        ("{ tag = 'a', one_of = ['a', 'b'], min = 1, max = 2 }", "has max, min, one_of, tag; it takes"),
        ("{ tag = 'a', min = 1 }", "has min, tag; it takes"),
        ("{ tag = 'a', json = {} }", "has json, tag; it takes"),
        ("{ tag = 'a', oneof = ['a', 'b'] }", "has oneof, tag; it takes"),
        ("{ tag = '<a>' }", "answer.tag is '<a>'"),
        ("{ tag = 1 }", "answer.tag is 1"),
        ("{ tag = 'Think' }", "is reasoning and never read"),
        ("{ tag = 'a', one_of = [] }", "answer.one_of is"),
        ("{ tag = 'a', one_of = ['a'] }", "answer.one_of is"),
        ("{ tag = 'a', one_of = 'low' }", "answer.one_of is"),
        ("{ tag = 'a', one_of = [1, 2] }", "answer.one_of is"),
        ("{ tag = 'a', one_of = ['low', 'LOW.'] }", "'low' and 'LOW.' cannot be told apart"),
        ("{ tag = 'a', one_of = ['low', '**'] }", "cannot be a label"),
        ("{ tag = 'a', min = 2, max = 2 }", "is not below"),
        ("{ tag = 'a', min = 0, max = inf }", "answer.max is inf"),
        ("{ tag = 'a', min = true, max = 2 }", "answer.min is True"),
        ("{ json = 'x' }", "answer.json is text"),
        ("{ json = { type = 'objekt' } }", "answer.json is no JSON Schema"),
        ("{ json = { '$ref' = 'https://example.org/s.json' } }", r"\$ref is not followed"),
        (
            "{ json = { '$schema' = 'https://example.org/s' } }",
            r"\$schema 'https://example.org/s' is no dialect",
        ),
        ("{ json = { properties = { a = { pattern = '(' } } } }", "no regular expression"),
        ("{ json = { const = 2026-11-01 } }", r"answer\.json\.const is a date"),
    ],
)
def test_a_reader_of_no_known_form_is_refused(tmp_path: Path, answer: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        task_of(tmp_path, "x", FRONT.replace('{ tag = "style" }', answer))


def test_a_file_that_is_not_utf8_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.md").write_bytes(FRONT.encode() + b"+++\ncaf\xe9")
    for name, reason in [
        ("latin.md", "not UTF-8: byte 0xe9"),
        ("none.md", "no such file"),
        (".", "cannot be read: Is a directory"),
        ("a\0.md", "cannot be read: embedded null byte"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            load_task(f"{tmp_path}/{name}")


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load_task("dificulty")
    assert str(caught.value) == (
        "no task 'dificulty'; built in: difficulty, kernels, prompts. "
        "A file of your own is named by its path, such as ./style.md"
    )


def test_a_builtin_name_is_not_a_file_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task_of(tmp_path, "mine").path.rename(tmp_path / "difficulty.md")
    monkeypatch.chdir(tmp_path)
    assert load_task("difficulty").name == "difficulty"
    assert load_task("difficulty.md").name == "style"
    assert load_task("./difficulty.md").template == "mine"

"""Each view: a hand-written table of rows in, and rows out."""

from __future__ import annotations

import sqlite3

import pytest
from fill_disk import TIME, Filling

from kbetl.prices import Price
from kbetl.resources import sql_names
from kbetl.store import Store
from kbetl.store.reservations import MaxUsage, ToReserve, add_price, reserve


@pytest.mark.parametrize("view", sql_names("views"))
def test_an_empty_store_has_views_without_rows(store, view):
    assert store.rows(f"select * from {view}") == []


# ratings, filtered


def test_ratings_has_a_row_for_each_sample_that_was_asked(store):
    """Also where the answer could not be read, and where nothing was sent; not what was never asked."""
    good, unread, lacking = store.rollout("A", 0.9), store.rollout("B", 0.95), store.rollout(None, 1.5)
    store.rollout("D", 1.0)
    task = store.task(model="judge")
    store.outcome(good, task, value="low")
    request = store.answer("B", "no idea", answered_at="2026-11-23T00:00:00.000Z")
    store.outcome(unread, task, "unparsed", request_hash=request)
    store.outcome(lacking, task, "failed", request_hash=None)

    rows = store.rows(
        "select sample_hash, module_name, reward, difficulty, status, evaluation_raw, model, task_hash,"
        " answered_at from ratings order by reward"
    )

    assert rows == [
        (good, "A", 0.9, "low", "ok", "low", "judge", task, TIME),
        (unread, "B", 0.95, None, "unparsed", "no idea", "judge", task, "2026-11-23T00:00:00.000Z"),
        (lacking, None, 1.5, None, "failed", None, "judge", task, TIME),
    ]


def test_ratings_reads_the_task_in_use_alone(store):
    """Another model, another task and a second attempt change nothing."""
    sample = store.rollout("A", 0.9)
    used, other = store.task(model="m"), store.task(model="other", in_use=False)
    style = store.task("style", template="style")
    store.outcome(sample, used, value="low")
    store.outcome(sample, other, value="high")
    store.outcome(sample, style, value="good")
    store.outcome(sample, used, value="medium", attempt=1, request_hash=None)

    assert store.rows("select difficulty, task_hash from ratings") == [("low", used)]
    store.rows("update tasks set in_use = 0")
    store.rows(f"update tasks set created_at = '2030-01-01T00:00:00.000Z' where hash = '{other}'")
    assert store.rows("select difficulty from ratings") == [
        ("high",)
    ]  # none in use: what became of the newest
    store.rows(f"update tasks set in_use = 1 where hash = '{used}'")
    assert store.rows("select difficulty from ratings") == [("low",)]
    store.rows(f"update tasks set in_use = (hash = '{other}')")
    assert store.rows("select difficulty from ratings") == [("high",)]


def test_ratings_reads_the_try_that_settled_the_outcome(store):
    sample, task = store.rollout("A", 0.9), store.task()
    request = store.answer("A", "unreadable")
    store.answer("A", "high", **{"try": 1})
    store.outcome(sample, task, value="high", request_hash=request, **{"try": 1})
    assert store.rows("select evaluation_raw from ratings") == [("high",)]


def test_filtered_is_above_min_reward_and_ok(store):
    """A reward of just min_reward is not above it; a sample without a reward is not either."""
    task = store.task()
    for name, reward in (("under", 0.8499), ("just", 0.85), ("above", 0.8500001), ("none", None)):
        store.outcome(store.rollout(name, reward), task, value="low")
    store.outcome(store.rollout("refused", 1.0), task, "refused")

    assert store.rows("select module_name, reward, difficulty, evaluation_raw from filtered") == [
        ("above", 0.8500001, "low", "low")
    ]
    store.store.change_setting("min_reward", 0.84)
    assert store.rows("select module_name from filtered order by reward") == [
        ("under",),
        ("just",),
        ("above",),
    ]


def test_a_later_score_is_the_reward_everywhere(store):
    """The newest by id, whatever its time; up and down."""
    up, down, late = store.rollout("Up", 0.1), store.rollout("Down", 0.9), store.rollout("Late", None)
    task = store.task()
    for sample in (up, down, late):
        store.outcome(sample, task, value="low")
    for sample, reward, time in ((up, 2.0, "2030"), (up, 1.0, "2020"), (down, 0.2, TIME), (late, 0.95, TIME)):
        store.add("scores", sample_hash=sample, reward=reward, scored_at=time, run_id=store.run_id)

    assert store.rows("select module_name, reward from filtered order by 1") == [("Late", 0.95), ("Up", 1.0)]
    expected = [("Down", 0.2), ("Late", 0.95), ("Up", 1.0)]
    for view in ("ratings", "rollouts", "selectable"):
        assert store.rows(f"select module_name, reward from {view} order by 1") == expected
    assert store.rows("select module_name from unique_best") == [("Up",), ("Late",)]


# unique_best


def test_unique_best_is_the_highest_reward_per_name(store):
    """On a tie the first in source order; sorted by reward, then by where the name first appears."""
    rows = [
        ("A", 0.9, "a1"),
        ("A", 0.95, "a2"),
        ("B", 1.0, "b1"),
        ("B", 1.0, "b2"),
        ("C", 0.95, "c1"),
        (None, 0.95, "n1"),
        (None, 0.9, "n2"),
        ("a", 0.86, "other case"),
    ]
    hashes = {text: store.rollout(name, reward, text) for name, reward, text in rows}
    task = store.task()
    for sample in hashes.values():
        store.outcome(sample, task, value="low")
    # b2 comes first in its source; n1 is in no source at all
    store.source("first", *(hashes[text] for text in ("b2", "a1", "c1", "b1", "other case")))
    store.source("second", *(hashes[text] for text in ("b1", "a2", "n2", "c1", "a2")))

    assert store.rows("select sample_hash from unique_best") == [
        (hashes[text],) for text in ("b2", "a2", "c1", "n1", "n2", "other case")
    ]


def test_unique_best_breaks_a_tie_outside_all_sources_by_the_hash(store):
    one, two = sorted([store.rollout("A", 1.0, "1"), store.rollout("A", 1.0, "2")])
    task = store.task()
    store.outcome(two, task, value="low")
    store.outcome(one, task, value="high")
    assert store.rows("select * from unique_best") == [(one, "A", 1.0, "high")]


# pending, failures, costs, source_counts


def test_pending_is_what_a_plain_run_would_ask(store):
    task = store.task()
    unasked, failed = store.rollout("new", 0.9), store.rollout("failed", 0.9)
    store.rollout("poor", 0.85)
    store.rollout("unmeasured", None)
    store.module("module")
    for status in ("ok", "unparsed", "refused", "truncated"):
        store.outcome(store.rollout(status, 0.9), task, status, value="low")
    store.outcome(failed, task, "failed")
    other = store.task(model="other", in_use=False)
    store.outcome(unasked, other, value="low")

    expected = [(unasked, "difficulty", task, "new", "new"), (failed, "difficulty", task, "failed", "failed")]
    assert sorted(store.rows("select * from pending")) == sorted(expected)


def test_pending_follows_scores_settings_and_each_task(store):
    """A task without `where` is asked of all of its kind; one with another `where` lists failures alone."""
    rollout, module = store.rollout("A", 0.1), store.module("M")
    failed = store.rollout("F", 0.0)
    store.task()
    store.task("prompts", about="module", restriction=None)
    own = store.task("own", restriction="module_name like 'A%'")
    store.outcome(failed, own, "failed")
    found = "select sample_hash, task, why from pending order by task"

    assert store.rows(found) == [(failed, "own", "failed"), (module, "prompts", "new")]
    store.add("scores", sample_hash=rollout, reward=0.9, scored_at=TIME, run_id=store.run_id)
    assert store.rows(found)[0] == (rollout, "difficulty", "new")
    store.store.change_setting("min_reward", 0.9)
    assert store.rows(found) == [(failed, "own", "failed"), (module, "prompts", "new")]


def test_pending_holds_what_failed_to_the_rule_of_its_task(store):
    """A failed sample whose reward is not above min_reward, now, is not asked again."""
    task, everything = store.task(), store.task("everything", restriction=None)
    good, poor, fallen = (
        store.rollout(name, reward) for name, reward in (("g", 0.9), ("p", 0.2), ("f", 0.9))
    )
    for sample in (good, poor, fallen):
        store.outcome(sample, task, "failed", request_hash=None)
        store.outcome(sample, everything, "failed", request_hash=None)
    store.add("scores", sample_hash=fallen, reward=0.1, scored_at=TIME, run_id=store.run_id)

    found = "select sample_hash from pending where task = "
    assert store.rows(f"{found}'difficulty'") == [(good,)]
    assert sorted(store.rows(f"{found}'everything'")) == sorted([(good,), (poor,), (fallen,)])


def test_failures_names_every_outcome_that_is_not_ok(store):
    used, other = store.task(), store.task(model="other", in_use=False)
    sample = store.rollout("A", 0.9)
    store.outcome(sample, used, value="low")
    store.outcome(sample, other, "unparsed", request_hash=store.answer("x", "hm"))
    store.outcome(sample, used, "failed", attempt=1, request_hash=None)
    assert store.rows(
        "select sample_hash, task, status, reason, module_name, model, task_hash, in_use, attempt,"
        " decided_at, answer from failures order by status"
    ) == [
        (sample, "difficulty", "failed", "because failed", "A", "m", used, 1, 1, TIME, None),
        (sample, "difficulty", "unparsed", "because unparsed", "A", "other", other, 0, 0, TIME, "hm"),
    ]


def test_costs_adds_up_what_was_paid(store):
    """Every try counts; a cost that nobody told is counted as such and not as nothing."""
    asking = store.store.begin_run("enrich", {}, task="difficulty")
    for number, (cost, tokens) in enumerate([(0.25, 10), (0.5, None), (None, 5)]):
        store.answer("a", "x", **{"try": number}, cost_usd=cost, prompt_tokens=tokens, run_id=asking)
    store.answer("b", "x", answered_at="2026-11-23T00:00:00.000Z", run_id=asking)
    store.answer("c", "x", model="other", cost_usd=0.0, completion_tokens=7, reasoning_tokens=3)

    columns = "task, model, day, run_id, answers, cost_usd, answers_without_cost, prompt_tokens"
    assert store.rows(
        f"select {columns}, completion_tokens, reasoning_tokens from costs order by task, day"
    ) == [
        (None, "other", "2026-11-22", store.run_id, 1, 0.0, 0, None, 7, 3),
        ("difficulty", "m", "2026-11-22", asking, 3, 0.75, 1, 15, None, None),
        ("difficulty", "m", "2026-11-23", asking, 1, None, 1, None, None, None),
    ]


def test_costs_keeps_what_was_computed_and_reserved_apart(store):
    """By tokens and the run's own price, where an answer tells no cost and the price holds for its prompt."""
    asking = store.store.begin_run("enrich", {}, task="difficulty")
    other = store.store.begin_run("enrich", {}, task="difficulty")
    price = Price(2.0, 0.5, 8.0, "kbetl.toml", below_prompt_tokens=1000)
    with store.store.transaction():
        add_price(store.store, asking, "m", price)
        request_hash = "r1:" + "0" * 64
        reserve(store.store, ToReserve(asking, request_hash, 0, "m", MaxUsage(500, 4_000_000_000)))
        reserve(store.store, ToReserve(asking, request_hash, 0, "m", MaxUsage(100, None)))
    store.store.connection.execute("update reservations set reserved_at = ?", [TIME])
    told = {"prompt_tokens": 100, "completion_tokens": 10}
    for number, answer in enumerate(
        [
            {**told, "cost_usd": 0.5},
            {**told, "cached_tokens": 40},
            {**told, "cached_tokens": 400},
            {**told, "prompt_tokens": 1000},
            {"prompt_tokens": 7},
        ]
    ):
        store.answer("a", "x", **{"try": number}, run_id=asking, **answer)
    store.answer("b", "x", run_id=other, **told)
    columns = "run_id, answers, cost_usd, answers_without_cost, computed_usd, uncounted"
    computed_usd = (60 * 2 + 40 * 0.5 + 10 * 8 + 100 * 0.5 + 10 * 8) / 1e6
    assert store.rows(f"select {columns}, reserved, reserved_tokens, reserved_usd from costs") == [
        (asking, 5, 0.5, 4, pytest.approx(computed_usd), 2, 2, 600, 0.004),
        (other, 1, None, 1, None, 1, 0, None, None),
    ]


def test_source_counts_tells_rows_from_samples(store):
    """Repeats are rows, not samples; a sample of two sources counts in both; a source may be empty."""
    one, two, module = store.rollout("A", 1.0), store.rollout("B", 1.0), store.module("M")
    first = store.source("first", one, two, one, module)
    second = store.source("second", one)
    third = store.source("empty")
    for position in (4, 5):
        store.add(
            "rejected_rows",
            source_id=first,
            position=position,
            location="f:5",
            reason="no",
            run_id=store.run_id,
        )
    assert store.rows("select * from source_counts order by source_id") == [
        (first, "first", 4, 3, 1, 2, 2, TIME, None, None, 0),
        (second, "second", 1, 1, 0, 1, 0, TIME, None, None, 0),
        (third, "empty", 0, 0, 0, 0, 0, TIME, None, None, 0),
    ]


def test_model_counts_tells_whose_rollouts_a_source_holds(store):
    """What the run says wins over the row; the same rollout in two runs counts for the model of each."""
    own = store.rollout("A", 1.0)
    store.add("rollout_facts", sample_hash=own, is_empty=0, model="own", environment="e")
    empty = store.rollout("B", None)
    store.add("rollout_facts", sample_hash=empty, is_empty=1, error="ModelError")
    store.source("file", own, empty, store.module("M"))
    for name in ("one", "two"):
        source = store.source(name, empty, empty)
        store.store.connection.execute(
            "update sources set model = ?, environment = 'env' where id = ?", (f"m-{name}", source)
        )
    store.source("nothing")
    assert store.rows(
        "select source, model, environment, rows, rollouts, empty, errors, rewarded from model_counts "
        "order by source_id, model"
    ) == [
        ("file", None, None, 1, 1, 1, 1, 0),
        ("file", "own", "e", 1, 1, 0, 0, 1),
        ("one", "m-one", "env", 2, 1, 1, 1, 0),
        ("two", "m-two", "env", 2, 1, 1, 1, 0),
    ]
    assert dict(store.rows("select module_name, model from rollouts")) == {"A": "own", "B": None}


# splits


def split_of(store: Filling) -> dict[str, str]:
    return dict(store.rows("select sample_hash, split from splits"))


def test_splits_keep_a_module_together_and_never_move(store):
    """Same code, same side; adding rows changes no side; by name it is the same name."""
    codes = [f"def f():\n    return {number}\n" for number in range(60)]
    for number, code in enumerate(codes * 2):
        store.sample({"python_code": code, "module_name": f"N{number // 3}", "n": number})
    before = split_of(store)
    sides = "select count(distinct split) from splits join samples on hash = sample_hash group by"
    assert {row[0] for row in store.rows(f"{sides} code_hash")} == {1}
    assert set(before.values()) == {"train", "validation"}
    for number in range(60):
        store.sample({"python_code": f"x = {number}", "module_name": "New"})
    after = split_of(store)
    assert {sample: after[sample] for sample in before} == before
    store.store.change_setting("split_by", "name")
    assert {row[0] for row in store.rows(f"{sides} module_name")} == {1}


@pytest.mark.parametrize("seed", [0, 1, 42, 43, -7, 2**40])
def test_splits_have_the_share_for_any_seed(store, seed):
    """2,000 modules, a tenth of them for validation within four standard deviations."""
    for number in range(2000):
        store.sample({"python_code": f"x = {number}"})
    store.store.change_setting("split_seed", seed)
    validation = sum(split == "validation" for split in split_of(store).values())
    assert abs(validation - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5


def test_splits_change_with_the_seed_and_the_share(store):
    for number in range(300):
        store.sample({"python_code": f"x = {number}"})
    first = split_of(store)
    store.store.change_setting("split_seed", 43)
    assert split_of(store) != first
    store.store.change_setting("split_seed", 42)
    assert split_of(store) == first
    store.store.change_setting("split_share", 0.3)
    wider = {sample for sample, split in split_of(store).items() if split == "validation"}
    assert wider > {sample for sample, split in first.items() if split == "validation"}
    for share, split in ((0, "train"), (1, "validation")):
        store.store.change_setting("split_share", share)
        assert set(split_of(store).values()) == {split}


def test_splits_are_pinned(store):
    """These sides are a contract: a change would move rows of every dataset that was published."""
    for number in range(40):
        store.sample({"python_code": f"x = {number}", "n": number})
    names = store.rows(
        "select json_extract(row, '$.n') from samples join splits on sample_hash = hash"
        " where split = 'validation' order by 1"
    )
    assert [name for (name,) in names] == PINNED_VALIDATION


PINNED_VALIDATION = [6, 17, 19, 24, 25, 32]


# selectable


def test_selectable_has_one_row_per_sample(store):
    """Asked or not, rollout or module; the columns that do not apply are null."""
    task = store.task(model="judge")
    asked = store.sample({"completion": "c", "model": "m", "reward": 0.9, "module_name": "A"})
    module = store.module("B")
    store.outcome(asked, task, value="high")
    columns = (
        "hash, sample_hash, kind, module_name, reward, difficulty, status, rating_model, model, completion"
    )
    assert store.rows(f"select {columns} from selectable order by kind desc") == [
        (asked, asked, "rollout", "A", 0.9, "high", "ok", "judge", "m", "c"),
        (module, module, "module", "B", None, None, None, None, None, None),
    ]


# what they cost

NARROW = {
    "counts by source": "select * from source_counts",
    "filtered": "select sample_hash, module_name, reward, difficulty from filtered",
    "unique": "select count(*) from unique_best",
    "splits": "select split, count(*) from splits group by split",
    "pending": "select task, why, count(*) from pending group by task, why",
    "failures": "select task, status, reason, count(*) from failures group by task, status, reason",
    "rewards": "select sample_hash, reward from rollouts where reward > 0.85",
}


@pytest.mark.parametrize("statement", NARROW.values(), ids=NARROW)
def test_counting_reads_no_wide_row(store, statement):
    """Every look at `samples` is answered by an index that covers it."""
    plan = [row[3] for row in store.rows(f"explain query plan {statement}")]
    looks = [step for step in plan if " samples " in step]
    assert looks or "failures" in statement
    assert [step for step in looks if "COVERING INDEX" not in step] == []


def test_plain_sqlite_reads_the_views(store, tmp_path):
    """No Python function is needed: a connection of `sqlite3` alone runs every view."""
    store.outcome(store.rollout("A", 0.9), store.task(), value="low")
    plain = sqlite3.connect(store.path)
    for view in sql_names("views"):
        plain.execute(f"select * from {view}").fetchall()
    assert plain.execute("select count(*) from unique_best").fetchone() == (1,)
    plain.close()


def test_a_changed_view_is_made_anew_by_a_writer(tmp_path):
    path = tmp_path / "kbetl.db"
    Store.open(path).close()
    with sqlite3.connect(path) as plain:
        plain.execute("drop view costs")
        plain.execute("create view costs as select 1 as wrong")
    plain.close()
    with Store.open(path) as store:
        assert (
            "wrong"
            not in store.connection.execute("select sql from sqlite_schema where name = 'costs'").fetchone()[
                0
            ]
        )

"""Reading JSON without losing anything, and the one spelling of a content."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbetl.errors import BadRow
from kbetl.json_codec import MAX_DEPTH, canonical_json, plain_value, read_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", '":', '\\":', ": ", "a\\", '"a": 1', "\n", "\x00", "😀"]
)
NUMBERS = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.1, 1e-7, 5e-324, 1e308, -0.0, 2.0**53, 2.0**63, 2.0**64, -(2.0**63)])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([":", ": ", " : ", "\t:\n"]))
def test_reading_agrees_with_the_standard_library(
    value: Any, escapes: bool, indent: int | None, colon: str
) -> None:
    """To the type and the last digit, however the text is laid out."""
    text = json.dumps(value, ensure_ascii=escapes, indent=indent, separators=(",", colon))

    found = read_json(text.encode())

    assert repr(found.value) == repr(json.loads(text))
    assert (found.text, found.nonfinite) == (text, ())


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4), st.data())
def test_key_that_stands_twice_is_always_found(row: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands around it, at any depth."""
    key = data.draw(st.sampled_from(sorted(row)))
    pairs = [*row.items(), (key, data.draw(VALUES))]
    text = "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}"
    for _ in range(data.draw(st.integers(0, 2))):
        before, after = data.draw(st.sampled_from([('{"outer": ', "}"), ("[0, ", ', "a"]')]))
        text = before + text + after

    with pytest.raises(BadRow, match="stands twice in one object"):
        read_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a" : 1, "a": 1}',
        '{"a":1,"a"\n:1}',
        '{"a": 1, "\\u0061": 1}',
        '{"a\\\\": 1, "a\\\\": 1}',
        '{"a": 1, "a": 2, "b\\\\": 3}',
        '{"a": "\\":", "a": 1}',
        '{"": 1, "": 1}',
        '{"a": {"b": 1}, "c": [{"d": 1, "d": 2}]}',
        '{"\\"": 1, "\\"": 2}',
        '{"a": 1, "a": 2, "b": ": c"}',
    ],
)
def test_spelling_does_not_hide_a_key_that_stands_twice(text: str) -> None:
    with pytest.raises(BadRow, match="stands twice in one object"):
        read_json(text.encode())


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**22, 10**300])
def test_integers_keep_their_digits(number: int) -> None:
    found = read_json(b'{"a": %d}' % number)

    assert found.value == {"a": number}
    assert type(found.value["a"]) is int
    assert canonical_json(found.value) == b'{"a":%d}' % number


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400 + ".5"])
def test_number_that_no_double_holds_is_null_and_its_path_is_known(token: str) -> None:
    text = f'{{"a": [1, {token}], "b c": {{"d": {token}}}, "e": "{token}", "f": 1e5}}'

    found = read_json(text.encode())

    assert found.value == {"a": [1, None], "b c": {"d": None}, "e": token, "f": 1e5}
    assert found.text == text.replace(f" {token}]", " null]").replace(f" {token}}}", " null}")
    assert found.nonfinite == ("$.a[1]", '$."b c".d')
    assert json.loads(found.text) == found.value


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '{"a": "\\udc00\\ud800"}', '{"\\ud800": 1}', '[["\\ud83d"]]', '"\\ud83d\\u0041"']
)
def test_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(BadRow, match="a lone surrogate at"):
        read_json(text.encode())


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth_has_a_limit_that_can_be_written_too(brackets: str) -> None:
    opening = brackets[0] if brackets == "[]" else '{"a":'
    inner = "" if brackets == "[]" else "1"

    def nested(depth: int) -> bytes:
        return (opening * depth + inner + brackets[1] * depth).encode()

    canonical_json(read_json(nested(MAX_DEPTH)).value)
    for depth in (MAX_DEPTH + 1, 1_000, 1_100, 200_000):
        with pytest.raises(BadRow, match="it nests deeper than 250 levels"):
            read_json(nested(depth))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON: Expecting value at column 1"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"a": 1} x', "not JSON: Extra data at column 10"),
        (b'{"a":\n\n nope}', "not JSON: Expecting value at its line 3, column 2"),
        (b'"\xc3("', "invalid UTF-8: byte 0xc3 at offset 1"),
        (b"9" * 5000, "a number that cannot be read"),
    ],
)
def test_reason_says_what_and_where(text: bytes, reason: str) -> None:
    with pytest.raises(BadRow) as refused:
        read_json(text)

    assert str(refused.value).startswith(reason)


@given(VALUES)
def test_canonical_text_is_stable(value: Any) -> None:
    """Reading it and writing it again gives the same bytes."""
    once = canonical_json(value)

    assert canonical_json(read_json(once).value) == once
    assert canonical_json(json.loads(once)) == once


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_canonical_text_is_sorted_dense_and_without_nulls(row: dict[str, Any]) -> None:
    text = canonical_json(row)

    found = json.loads(text)
    assert list(found) == sorted(key for key, value in row.items() if value is not None)
    assert text == canonical_json(dict(reversed(row.items())))


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": math.nan}])
def test_canonical_text_of_what_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="has no JSON spelling"):
        canonical_json(value)


def test_value_from_elsewhere_is_spelled_and_made_finite() -> None:
    found = plain_value({"a": math.nan, "b": [math.inf, 1], "c": 2**70, "d": None})

    assert found.value == {"a": None, "b": [None, 1], "c": 2**70, "d": None}
    assert found.nonfinite == ("$.a", "$.b[0]")
    assert json.loads(found.text) == found.value

"""Text from outside acts on nothing that shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbetl.text import blanked, hidden_line, inert_markdown, listed, on_one_line, plain_text

ANY = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize("made_safe", [plain_text, blanked, on_one_line, inert_markdown])
@given(text=ANY)
def test_what_is_shown_is_one_printable_line(made_safe, text):
    assert made_safe(text).isprintable()


@given(text=st.text(st.characters(categories=["L", "N", "Zs"])).filter(str.isprintable))
def test_plain_words_stay_as_they_are(text):
    assert plain_text(text) == blanked(text) == text


@given(text=ANY)
def test_markdown_of_a_text_has_no_markup_left(text):
    found = inert_markdown(text)
    assert "<" not in found
    assert "://" not in found


def test_a_list_that_is_cut_short_says_how_much_is_hidden():
    assert [listed("ab", hidden) for hidden in (0, 1, 1200)] == [
        "a, b",
        "a, b and 1 more",
        "a, b and 1,200 more",
    ]
    assert hidden_line(0, "rows") == []
    assert hidden_line(1200, "rows") + hidden_line(1) == ["... and 1,200 more rows", "... and 1 more"]

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.cli.selection import LONGEST, Key, parse_selection
from gpuzarr.errors import SelectionError

ends = st.none() | st.integers(-50, 50)
steps = st.none() | st.integers(-5, 5).filter(bool)
entries = st.one_of(
    st.integers(-100, 100),
    st.none(),
    st.just(...),
    st.builds(slice, ends, ends, steps),
    st.lists(st.integers(-9, 9), max_size=4),
    st.lists(st.booleans(), min_size=1, max_size=4),
)


def text_of(entry: object) -> str:
    if isinstance(entry, slice):
        return ":".join(
            "" if end is None else str(end) for end in (entry.start, entry.stop, entry.step)
        )
    return "..." if entry is ... else repr(entry)


@given(st.lists(entries, min_size=2, max_size=5))
def test_what_numpy_would_get(key: list[object]) -> None:
    assert parse_selection(", ".join(map(text_of, key))) == tuple(key)


@given(entries)
def test_one_entry_is_no_tuple(entry: object) -> None:
    assert parse_selection(text_of(entry)) == entry


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", ...),
        ("  ", ...),
        ("3", 3),
        ("3,", (3,)),
        ("-3", -3),
        ("(1, 2)", (1, 2)),
        ("::-1", slice(None, None, -1)),
        ("None:None", slice(None)),
        ("\n 1,\n 2", (1, 2)),
        ("'field'", "field"),
        ("[]", []),
        ("1 # ]", 1),
        ("1_000", 1000),
        ("0x10", 16),
        (str(2**70), 2**70),
    ],
)
def test_cases(text: str, key: Key) -> None:
    assert parse_selection(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "1 + 1",
        "1.5",
        "True",
        "-True",
        "~1",
        "1:2:3:4",
        "[1, True]",
        "[[1]]",
        "[1:2]",
        "{}",
        "'a', 1",
        "b'a'",
        "__import__('os')",
        "f()",
        "0] + _[0",
        "0][1",
        "0]; _[0",
        "*x",
        "x := 1",
        "lambda: 0",
        "\0",
        "9" * 5000,
        "(" * 500 + ")" * 500,
        "-" * 5000 + "1",
        "-" * LONGEST + "1",
        "1 if 1 else 2",
        "1is",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="the selection"):
        parse_selection(text)


def test_keys_work_in_numpy() -> None:
    cube = np.arange(60).reshape(3, 4, 5)
    key: Any = parse_selection("::-1, [0, 2], None")
    np.testing.assert_array_equal(cube[key], cube[::-1, [0, 2], None])

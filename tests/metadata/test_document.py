from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.errors import MetadataError
from gpuzarr.metadata import document
from gpuzarr.metadata.document import (
    as_bool,
    as_choice,
    as_int,
    as_shape,
    as_text,
    check_members,
    member,
    parse_json,
    shorten,
)

from .documents import each

if TYPE_CHECKING:
    from collections.abc import Callable


def test_parses_every_kind_of_bytes_and_a_byte_order_mark() -> None:
    for data in (b'{"a": 1}', bytearray(b'{"a": 1}'), memoryview(b'\xef\xbb\xbf{"a": 1}')):
        assert parse_json(data, "x") == {"a": 1}


def test_takes_the_literals_that_zarr_2_writes_into_attributes() -> None:
    values = parse_json(b'{"a": NaN, "b": Infinity, "c": -Infinity}', ".zattrs")
    assert math.isnan(values["a"])
    assert (values["b"], values["c"]) == (math.inf, -math.inf)


def test_duplicate_members_are_fine() -> None:
    assert parse_json(b'{"a": 1, "a": 2}', "x") == {"a": 2}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b"\xff\xfe{}",
        b'{"a": "\xff"}',
        b'{"a": 1} x',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a":' * 200 + b"1" + b"}" * 200,
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(MetadataError, match=r"a/zarr\.json"):
        parse_json(data, "a/zarr.json")


def test_depth_up_to_the_limit() -> None:
    levels = document.MAX_DEPTH - 1
    parse_json(b'{"a":' + b"[" * levels + b"]" * levels + b"}", "x")
    with pytest.raises(MetadataError, match="nested too deeply"):
        parse_json(b'{"a":' + b"[" * (levels + 1) + b"]" * (levels + 1) + b"}", "x")


def test_size_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "NODE_NBYTES", 100)
    monkeypatch.setattr(document, "CONSOLIDATED_NBYTES", 300)
    with pytest.raises(MetadataError, match="at most 100"):
        parse_json(json.dumps({"attributes": "x" * 100}).encode(), "x")
    carrier = {"consolidated_metadata": {"metadata": "x" * 100}}
    assert parse_json(json.dumps(carrier).encode(), "x") == carrier
    carrier = {"zarr_consolidated_format": {"metadata": "x" * 300}}
    with pytest.raises(MetadataError, match="at most 300"):
        parse_json(json.dumps(carrier).encode(), "x")


def test_shorten_is_short_for_anything() -> None:
    for value in each(
        ("x" * 10**6, list(range(10**5)), {str(i): [[[[]]]] for i in range(999)}, 10**4000)
    ):
        assert len(shorten(value)) < 300


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (as_bool, [True, False], [0, 1, "true", None]),
        (as_text, ["a"], ["", 1, None, ["a"]]),
        (as_int, [0, 2**63 - 1], [-1, 2**63, 1.0, True, "1", None, 10**4000]),
        (as_shape, [[], [0, 2**63 - 1], [1] * 64], [3, [1.5], [-1], [2**63], [True], [1] * 65]),
        (lambda value, where: as_choice(value, where, ("C", "F")), ["C"], ["c", None, ["C"]]),
    ],
)
def test_accessors(read: Callable[..., Any], good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert read(value, "the.member") == (tuple(value) if isinstance(value, list) else value)
    for value in bad:
        with pytest.raises(MetadataError, match=r"the\.member"):
            read(value, "the.member")


def test_errors_say_what_was_found_and_what_is_right() -> None:
    with pytest.raises(MetadataError) as caught:
        as_int("5", "shape[2]", 0, 10)
    assert str(caught.value) == "shape[2] is '5'; it must be an integer from 0 to 10"
    with pytest.raises(MetadataError, match=r"configuration\.level is missing"):
        member({}, "level", "configuration")
    with pytest.raises(MetadataError, match=r"unknown member 'b'; regular has \"a\""):
        check_members({"a": 1, "b": 2}, "chunk_grid", ("a",), "regular")

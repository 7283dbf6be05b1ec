from __future__ import annotations

from typing import Any

import pytest

from gpuzarr.errors import MetadataError
from gpuzarr.metadata.extension import Extension, parse_essential, parse_extension


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("bytes", Extension("bytes", "x")),
        ({"name": "bytes"}, Extension("bytes", "x")),
        ({"name": "zstd", "configuration": {"level": 1}}, Extension("zstd", "x", {"level": 1})),
        ({"name": "a", "must_understand": False}, Extension("a", "x", {}, must_understand=False)),
        ("https://example.org/codec", Extension("https://example.org/codec", "x")),
    ],
)
def test_names_and_objects(value: Any, right: Extension) -> None:
    assert parse_extension(value, "x") == right


@pytest.mark.parametrize(
    "value",
    [
        *(None, 1, "", [], ["bytes"], {}, {"name": ""}, {"name": 5}, {"name": None}),
        {"configuration": {}},
        {"name": "a", "configuration": None},
        {"name": "a", "configuration": []},
        {"name": "a", "must_understand": "false"},
        {"name": "a", "must_understand": 0},
        {"name": "a", "id": "a"},
        {"id": "a"},
    ],
)
def test_refuses(value: Any) -> None:
    with pytest.raises(MetadataError, match="x"):
        parse_extension(value, "x")


def test_essential_extensions_cannot_be_ignored() -> None:
    assert parse_essential({"name": "a", "must_understand": True}, "data_type").name == "a"
    with pytest.raises(MetadataError, match="must_understand is false"):
        parse_essential({"name": "a", "must_understand": False}, "data_type")

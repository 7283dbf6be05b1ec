"""Reference documents: versions, templates, generated references, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuzarr.errors import GpuzarrError, MetadataError, StoreError, UnsupportedError
from gpuzarr.stores.references import document as references_document
from gpuzarr.stores.references.document import Pointer, parse_document
from gpuzarr.stores.references.templates import Template, TemplateError, Templates
from gpuzarr.stores.store import WHOLE


def of_version_1(refs: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return {"version": 1, **members, "refs": refs or {}}


def test_the_example_of_the_specification() -> None:
    document = {
        "version": 1,
        "templates": {"u": "server.domain/path", "f": "{{c}}"},
        "gen": [
            {
                "key": "gen_key{{i}}",
                "url": "http://{{u}}_{{i}}",
                "offset": "{{(i + 1) * 1000}}",
                "length": "1000",
                "dimensions": {"i": {"stop": 5}},
            }
        ],
        "refs": {
            "key0": "data",
            "key1": ["http://target_url", 10000, 100],
            "key2": ["http://{{u}}", 10000, 100],
            "key3": ["http://{{f(c='text')}}", 10000, 100],
        },
    }
    expected: dict[str, Any] = {
        "key0": b"data",
        "key1": Pointer("http://target_url", 10000, 100),
        "key2": Pointer("http://server.domain/path", 10000, 100),
        "key3": Pointer("http://text", 10000, 100),
    }
    for i in range(5):
        expected[f"gen_key{i}"] = Pointer(f"http://server.domain/path_{i}", 1000 * (i + 1), 1000)
    for given in (
        document,
        json.dumps(document).encode(),
        b"\xef\xbb\xbf" + json.dumps(document).encode(),
    ):
        references = parse_document(given)
        assert {key: references.find(key) for key in expected} == expected
        assert references.find("gen_key5") is None
        assert sorted(references.children("")) == sorted((key, False) for key in expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", b"text"),
        ("", b""),
        ("\u00e4", "\u00e4".encode()),
        ("base64:AP8=", b"\x00\xff"),
        ("base64:", b""),
        (b"\x00bytes", b"\x00bytes"),
        (b"base64:AP8=", b"\x00\xff"),
        ({"zarr_format": 2}, b'{"zarr_format": 2}'),
        (["a.nc"], Pointer("a.nc", 0, WHOLE)),
        (["a.nc", 0, 0], Pointer("a.nc", 0, 0)),
        (("a.nc", 5, 2**62), Pointer("a.nc", 5, 2**62)),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert parse_document({"k": value}).find("k") == expected
    assert parse_document(of_version_1({"k": value})).find("k") == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        True,
        [],
        [None],
        [None, 0, 5],
        [5],
        ["a.nc", 0],
        ["a.nc", 0, 1, 2],
        ["a.nc", -1, 5],
        ["a.nc", 0, -5],
        ["a.nc", 0, 1.5],
        ["a.nc", True, 1],
        ["a.nc", "0", "1"],
        ["a.nc", 2**63, 1],
        ["a.nc", 0, None],
        "base64:A",
        "base64:A P8=",
        "base64:\u00e4",
        "\ud800",
        {1: {2, 3}},
    ],
)
def test_a_damaged_value_is_told_of_its_key_and_of_no_other(value: Any) -> None:
    references = parse_document(of_version_1({"bad": value, "good": "x"}))
    with pytest.raises(StoreError, match="the reference of this key is damaged") as caught:
        references.find("bad")
    assert caught.value.key == "bad"
    assert references.find("good") == b"x"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"a": ',
        b"\xff\xfe",
        b'{"a":' * 10_000,
        b'{"version": 1, "refs": []}',
        b'{"version": 1, "refs": 5}',
        b'{"version": 1, "templates": ["u"]}',
        b'{"version": 1, "templates": {"u": 5}}',
        b'{"version": 1, "templates": {"u": "{{"}, "gen": {}}',
        b'{"version": 1, "gen": [5]}',
        *(
            b'{"version": 1, "templates": {"f": "{{c}}"}, "gen": [{"key": "%s", "url": "u"%s}]}'
            % each
            for each in [
                (b"k", b""),
                (b"k", b', "dimensions": {}'),
                (b"k", b', "dimensions": {"i": {}}'),
                (b"k", b', "dimensions": {"i": {"stop": 1.5}}'),
                (b"k", b', "dimensions": {"i": {"stop": 5, "step": 0}}'),
                (b"k", b', "dimensions": {"i": [1, "2"]}'),
                (b"k", b', "offset": "1", "dimensions": {"i": [1]}'),
                (b"{{j}}", b', "dimensions": {"i": [1]}'),
                (b"{{f(d=1)}}", b', "dimensions": {"i": [1]}'),
            ]
        ),
    ],
)
def test_damaged_documents_are_refused(document: bytes) -> None:
    with pytest.raises(MetadataError):
        parse_document(document)


@pytest.mark.parametrize("version", [0, 2, "1", True, 1.0, None])
def test_other_versions_are_refused(version: Any) -> None:
    with pytest.raises(UnsupportedError, match="0 and 1 are read"):
        parse_document({"version": version, "refs": {}})


def test_a_long_document_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references_document, "DOCUMENT_NBYTES", 10)
    with pytest.raises(MetadataError, match="write the references as Parquet"):
        parse_document(b'{"a": "bcdefgh"}')


def generate(*dimensions: dict[str, Any], key: str = "{{i}}") -> dict[str, Any]:
    return of_version_1(gen=[{"key": key, "url": "u", "dimensions": each} for each in dimensions])


def test_generated_references_are_bounded() -> None:
    for dimensions in (
        [{"i": {"stop": 2**62}}],
        [{"i": {"start": -(2**62), "stop": 2**62}}],
        [{name: {"stop": 1000} for name in "ijklmnop"}],
        [{"i": {"stop": 200_000}}, {"i": {"stop": 200_000}}],
        [{"i": [0] * 1000, "j": [0] * 1000}],
    ):
        with pytest.raises(UnsupportedError, match="at most 262144 are made"):
            parse_document(generate(*dimensions))
    with pytest.raises(MetadataError, match="more than 64 dimensions"):
        parse_document(generate({f"i{n}": {"stop": 1 << 20} for n in range(3000)}))


def test_keys_of_generated_references_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was, but not all of them: a few lines took gigabytes, or hours."""
    monkeypatch.setattr(references_document, "MOST_GENERATING_STEPS", 1 << 14)
    many = {"i": {"stop": 1 << 18}}
    with pytest.raises(UnsupportedError, match="characters are made in sum"):
        parse_document(generate(many, key="x" * 16_000 + "{{i}}"))
    with pytest.raises(MetadataError, match="too many steps"):
        parse_document(generate(many, key=("{{" + "i+" * 125 + "i}}") * 60))
    calls = generate(many, key="{{f(c=i)}}" * 100)
    with pytest.raises(MetadataError, match="too many steps"):
        parse_document({**calls, "templates": {"f": "{{c}}{{c}}"}})


def test_a_text_takes_few_steps() -> None:
    templates = Templates({"f": "{{c}}" * 3000})
    with pytest.raises(TemplateError, match="too many steps"):
        templates.expand("{{f(c='')}}" * 1400)


def test_generated_references_are_products() -> None:
    dimensions = {"i": {"start": 4, "stop": 0, "step": -2}, "j": [7, -5]}
    references = parse_document(generate(dimensions, key="a/{{i}}.{{j}}"))
    assert sorted(name for name, _ in references.children("a")) == ["2.-5", "2.7", "4.-5", "4.7"]
    assert references.find("a/2.7") == Pointer("u", 0, WHOLE)
    assert references.find("a/3.7") is None


def test_generated_offsets_are_checked_when_they_are_asked_for() -> None:
    document = of_version_1(
        gen=[
            {
                "key": "{{i}}",
                "url": "u",
                "offset": "{{i - 1}}",
                "length": 8,
                "dimensions": {"i": {"stop": 3}},
            }
        ]
    )
    references = parse_document(document)
    with pytest.raises(StoreError, match="is no offset or length"):
        references.find("0")
    assert references.find("2") == Pointer("u", 1, 8)


def test_urls_without_templates_are_taken_as_they_are() -> None:
    assert parse_document(of_version_1({"k": ["a{{b}}.nc"]})).find("k") == Pointer(
        "a{{b}}.nc", 0, WHOLE
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{}}",
        "{{ }}",
        "{{nothing}}",
        "{{f}}",
        "{{f('x')}}",
        "{{f(d='x')}}",
        "{{f(**c)}}",
        "{{u()}}",
        "{{u.upper()}}",
        "{{u[0]}}",
        "{{''.__class__}}",
        "{{open('/etc/passwd')}}",
        "{{9 ** 9}}",
        "{{1 << 99}}",
        "{{1 / 2}}",
        "{{1 // 0}}",
        "{{1 % 0}}",
        "{{u * 9}}",
        "{{'%s' % 1}}",
        "{{1.5}}",
        "{{True}}",
        "{{None}}",
        "{{[1]}}",
        "{{lambda: 1}}",
        "{{i for i in u}}",
        "{{9223372036854775807 + 1}}",
        "{{99999999999999999999}}",
        "{{" + "9" * 300 + "}}",
        "{{" + "(" * 120 + "1" + ")" * 120 + "}}" * 2 + "{{-'x'}}",
        "{{" + "-" * 250 + "u}}",
        "{{1\0}}",
        "x" * 20_000,
        "{{f(c=u)}}" * 1500,
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    templates = Templates({"u": "v" * 20, "f": "{{c}}"})
    with pytest.raises(TemplateError):
        templates.expand(text)
    references = parse_document(
        of_version_1({"k": ["{{u}}" + text]}, templates={"u": "v" * 20, "f": "{{c}}"})
    )
    with pytest.raises(StoreError, match="damaged") as caught:
        references.find("k")
    assert len(str(caught.value)) < 1000


def test_templates_do_not_grow_without_bound() -> None:
    body = "{{c}}" * 3000
    templates = Templates({"f": body})
    with pytest.raises(TemplateError, match="becomes longer"):
        templates.expand("{{f(c='" + "x" * 200 + "')}}")


def test_templates_do_not_see_each_other() -> None:
    templates = Templates({"f": "{{f(c=c)}}", "g": "{{u}}", "u": "v"})
    for text in ("{{f(c='x')}}", "{{g()}}"):
        with pytest.raises(TemplateError):
            templates.expand(text)


def test_expressions() -> None:
    values: dict[str, int | str] = {"i": 7, "u": "v"}
    for text, expected in [
        ("{{ i }}", "7"),
        ("a{{i}}b{{u}}c", "a7bvc"),
        ("{{i // 2 - -3}}", "6"),
        ("{{(i + 1) * 1000 % 13}}", "5"),
        ("{{'x'}}", "x"),
        ("{ {i} }", "{ {i} }"),
        ("{{i", "{{i"),
        ("{{-(i - 8)}}", "1"),
    ]:
        assert Template(text).render(values) == expected


def test_children_leap_over_what_is_below() -> None:
    keys = ["a/b/c", "a/b/d", "a", "a.b", "a0", "b/", "c//d", "d/../e", ".zgroup", "e/f"]
    references = parse_document(dict.fromkeys(keys, "x"))
    assert sorted(references.children("")) == [
        (".zgroup", False),
        ("a", False),
        ("a", True),
        ("a.b", False),
        ("a0", False),
        ("b", True),
        ("c", True),
        ("d", True),
        ("e", True),
    ]
    assert list(references.children("a")) == [("b", True)]
    assert list(references.children("d")) == []
    assert list(references.children("x")) == []


@pytest.mark.parametrize("text", ["[" * 100_000, '{"refs": ' + "1" * 5000 + "}"])
def test_documents_that_trouble_the_parser(text: str) -> None:
    with pytest.raises(GpuzarrError):
        parse_document(text.encode())


def test_the_chunk_of_an_array_without_dimensions_as_kerchunk_writes_it() -> None:
    references = parse_document({"a/.zarray": {}, "a/": ["x.grib", 1, 2], "b/": "x", "b/0": "y"})
    assert references.find("a/0") == Pointer("x.grib", 1, 2)
    assert references.find("a/0/0") is None
    assert references.find("b/0") == b"y"
    assert sorted(references.children("a")) == [(".zarray", False), ("0", False)]
    assert list(references.children("b")) == [("0", False)]

"""`-s NAME=VALUE`: the options of storage, for every command that opens a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr.cli import storage_options
from gpuzarr.stores import resolve
from gpuzarr.stores.memory import MappingStore
from tests.arrays import plain_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

VALUES = np.arange(36, dtype="i4").reshape(6, 6)
SECRET = "hunter2"  # noqa: S105  what errors must not show


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that URLs are opened with; each is an array in memory."""
    seen: list[Any] = []

    def open_url(url: str, scheme: str, options: Any) -> MappingStore:
        del scheme
        seen.append(options)
        return MappingStore(plain_store(VALUES, (3, 3)), url)

    monkeypatch.setattr(resolve, "_open_url", open_url)
    return seen


@pytest.mark.parametrize(
    "command",
    ["info", "tree", "explain", "read", "verify", "bench --rounds 1 --windows 1", "demo"],
)
def test_every_command_takes_them(command: str, opened: list[Any], gpuzarr: Run) -> None:
    name, *more = command.split()
    options = ["-s", "anonymous=true", "--storage-options", "region=eu-west-1"]
    assert gpuzarr(name, "s3://bucket/a.zarr", *more, *options)[0] == 0
    assert opened
    for found in opened:
        assert found == {"anonymous": True, "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["a=b=c"], {"a": "b=c"}),
        (["a="], {"a": ""}),
        (["a=TRUE", "b=False", "c=1", "d=null"], {"a": True, "b": False, "c": "1", "d": "null"}),
        (["a=1", "a=2"], {"a": "2"}),
        (['{"a": 1, "b": {"c": null}}', "a=x"], {"a": "x", "b": {"c": None}}),
        (['t={"anonymous": true}', 'l=["/data"]'], {"t": {"anonymous": True}, "l": ["/data"]}),
    ],
)
def test_what_is_meant(
    arguments: list[str], options: dict[str, Any], opened: list[Any], gpuzarr: Run
) -> None:
    given = [part for argument in arguments for part in ("-s", argument)]
    assert gpuzarr("info", "s3://bucket", *given)[0] == 0
    assert opened == [options]


def test_a_file_of_them(tmp_path: Path, opened: list[Any], gpuzarr: Run) -> None:
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"secret_access_key": SECRET}))
    assert gpuzarr("info", "s3://bucket", "-s", f"@{file}")[0] == 0
    assert opened == [{"secret_access_key": SECRET}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", SECRET], "NAME=VALUE"),
        (["-s", f"={SECRET}"], "NAME=VALUE"),
        (["-s", f'{{"secret": "{SECRET}"'], "this JSON is wrong at line 1, column 21"),
        (["-s", f'secret=["{SECRET}"'], "the value of 'secret', as JSON, is wrong at line 1"),
        (["-s", "a=" + "[" * 100_000], "nested too deeply"),
        (["-s", "@absent"], "cannot read 'absent': No such file"),
        (["-s", "@list"], "the JSON in 'list' is no object of options"),
        (["-s", "@binary"], "cannot read 'binary': it is no text"),
        (["-s", "a=b", f"secret={SECRET} and {SECRET}"], "unrecognized arguments: secret=..."),
        ([f"--secret={SECRET}"], "unrecognized arguments: --secret=..."),
    ],
)
def test_what_is_wrong_is_told_without_secrets(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gpuzarr: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text(f'["{SECRET}"]')
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as caught:
        gpuzarr("info", "s3://bucket", *arguments)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert message in told
    assert SECRET not in told


def test_a_command_that_is_not_known(capsys: pytest.CaptureFixture[str], gpuzarr: Run) -> None:
    with pytest.raises(SystemExit):
        gpuzarr("-s", f"secret={SECRET}", "info", "s3://bucket")
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secret_key": SECRET}, "storage_options has 'secret_key', which obstore does not know"),
        ({"client_options": SECRET}, "client_options is a mapping of options, not a str"),
        ({"retry_config": [SECRET]}, "retry_config is a mapping of options, not a list"),
        (
            {
                "session_token": SECRET,
                "access_key_id": "x",
                "secret_access_key": SECRET,
                "timeout": "soon",
            },
            '"soon" as Duration',
        ),
        ({"secret_access_key": SECRET}, "Missing AccessKeyId"),
    ],
)
@pytest.mark.parametrize("shown", [(), ("--json",)])
def test_what_the_storage_refuses_is_told_without_secrets(
    options: dict[str, Any], message: str, shown: tuple[str, ...], gpuzarr: Run
) -> None:
    pytest.importorskip("obstore")
    status, out, err = gpuzarr("info", "s3://bucket", *shown, "-s", json.dumps(options))
    assert status == 2
    assert message in (json.loads(out)["error"]["message"] if shown else err)
    assert SECRET not in out + err


def test_they_are_for_urls_only(tmp_path: Path, gpuzarr: Run) -> None:
    status, _, err = gpuzarr("info", tmp_path, "-s", f"secret={SECRET}")
    assert status == 2
    assert "for stores that are given by a URL" in err
    assert SECRET not in err


def test_text_is_no_number_but_where_one_is_wanted(gpuzarr: Run) -> None:
    """Keys may consist of digits, with zeros that must stay."""
    pytest.importorskip("obstore")
    assert storage_options.parse_options("access_key_id=0012") == {"access_key_id": "0012"}
    retries = '{"retry_config": {"max_retries": 0}}'
    for name in ("timeout=2.5", "concurrency=8"):
        status, _, err = gpuzarr("info", "http://127.0.0.1:1", "-s", name, "-s", retries)
        assert status == 2
        assert "no server answers there" in err
    assert (
        "concurrency=0: give a number"
        in gpuzarr("info", "http://127.0.0.1:1", "-s", "concurrency=0")[2]
    )

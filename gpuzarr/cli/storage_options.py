"""`-s`: how the storage of a URL is reached, as `storage_options` of `gpuzarr.open`.

    -s anonymous=true -s region=eu-west-1      one option, NAME=VALUE
    -s '{"timeout": 120}'                      a JSON object of options
    -s @secret.json                            a file with one: other users may see a command line

A VALUE is text, but for true, false and JSON's objects and lists. Options may be secret, so no
error shows more of them than their names.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_FORMS = "give NAME=VALUE, a JSON object of options, or @FILE for a file with one"
_SWITCHES = {"true": True, "false": False}


def add_storage_options(parser: argparse.ArgumentParser) -> None:
    """`-s`, any number of times; what is given last counts."""
    parser.add_argument(
        "-s",
        "--storage-options",
        action=_Merge,
        type=parse_options,
        metavar="NAME=VALUE",
        help="how to reach the storage of a URL, such as anonymous=true or region=eu-west-1; also a"
        " JSON object, or @FILE with one; may be repeated",
    )


def parse_options(text: str) -> dict[str, Any]:
    """The options in one argument.

    >>> parse_options("anonymous=true")
    {'anonymous': True}

    Raises:
        argparse.ArgumentTypeError: it is none of the three forms.
    """
    if text.startswith("@"):
        return _read_file(text[1:])
    if text.startswith("{"):
        return _parse_object(text, "this JSON")
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(_FORMS)
    return {name.strip(): _parse_value(name.strip(), value)}


def _read_file(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise argparse.ArgumentTypeError(f"cannot read {path!r}: {reason}") from None
    return _parse_object(text, f"the JSON in {path!r}")


def _parse_object(text: str, what: str) -> dict[str, Any]:
    found = _parse_json(text, what)
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{what} is no object of options; {_FORMS}")
    return found


def _parse_value(name: str, value: str) -> Any:
    if value[:1] in {"{", "["}:
        return _parse_json(value, f"the value of {name!r}, as JSON,")
    return _SWITCHES.get(value.lower(), value)


def _parse_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"{what} is wrong at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise argparse.ArgumentTypeError(f"{what} is nested too deeply") from None


class _Merge(argparse.Action):
    """Options that are given in several arguments are options of one store."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        del parser, option_string
        before = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, {**before, **values})

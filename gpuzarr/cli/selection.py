"""What stands between the brackets of `array[...]`, from text. Nothing in it is evaluated."""

from __future__ import annotations

import ast
import warnings
from types import EllipsisType

from gpuzarr.errors import SelectionError

LONGEST = 100_000
"""Characters; beyond it Python's parser needs more memory than a selection is worth."""

SHOWN = 200
"""Characters of a text that an error repeats."""

Index = int | slice | EllipsisType | list[int] | list[bool] | None
Key = str | Index | tuple[Index, ...]


def parse_selection(text: str) -> Key:
    """Turn NumPy's syntax into a key: integers, slices, `...`, None, lists, or one field's name.

    >>> parse_selection("0:10, ..., -1, ::2")
    (slice(0, 10, None), Ellipsis, -1, slice(None, None, 2))
    >>> parse_selection("[0, 3, 5]")
    [0, 3, 5]
    >>> parse_selection("")
    Ellipsis

    Raises:
        SelectionError: anything else.
    """
    if not text.strip():
        return ...
    if len(text) > LONGEST:
        raise _wrong(text, f"is longer than {LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            expression = ast.parse(f"_[{text}\n]", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _wrong(text, "is not NumPy's syntax") from error
    match expression:
        case ast.Subscript(value=ast.Name(id="_"), slice=ast.Tuple(elts=elements)):
            return tuple(_index(element, text) for element in elements)
        case ast.Subscript(value=ast.Name(id="_"), slice=ast.Constant(value=str(name))):
            return name
        case ast.Subscript(value=ast.Name(id="_"), slice=element):
            return _index(element, text)
        case _:
            raise _wrong(text, "is more than one selection")


def _index(node: ast.expr, text: str) -> Index:
    """One entry of a key."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=value) if value is ...:
            return ...
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(
                *(None if end is None else _end(end, text) for end in (lower, upper, step))
            )
        case ast.List(elts=elements):
            return _list(elements, text)
        case _:
            return _integer(node, text)


def _end(node: ast.expr, text: str) -> int | None:
    """One end of a slice, or its step."""
    match node:
        case ast.Constant(value=None):
            return None
        case _:
            return _integer(node, text)


def _list(elements: list[ast.expr], text: str) -> list[int] | list[bool]:
    """A list of integers, or a mask."""
    mask = [truth for element in elements if (truth := _truth(element)) is not None]
    if not mask:
        return [_integer(element, text) for element in elements]
    if len(mask) < len(elements):
        raise _wrong(text, "mixes integers and truth values in one list")
    return mask


def _truth(node: ast.expr) -> bool | None:
    """A truth value, or None for anything else."""
    match node:
        case ast.Constant(value=bool(value)):
            return value
        case _:
            return None


def _integer(node: ast.expr, text: str) -> int:
    """An integer, with a sign or without."""
    match node:
        case ast.Constant(value=bool()) | ast.UnaryOp(operand=ast.Constant(value=bool())):
            raise _wrong(text, "has a truth value outside a list")
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case _:
            raise _wrong(text, "has something else in it")


def _wrong(text: str, what: str) -> SelectionError:
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return SelectionError(
        f"the selection {shown!r} {what}; write integers, slices, ..., None or lists of integers, "
        'such as "0:10, ..., 3"'
    )

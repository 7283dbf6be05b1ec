"""Texts with `{{...}}` in reference documents, without the template engine that they come from.

The specification renders them by jinja2, which can compute for ever and is no dependency of
gpuzarr. What reference files hold is far less, and only that is understood between the braces:

    {{u}}                  a template, or a dimension of a generated reference
    {{f(c='text')}}        a template that has annotations itself, with values for their names
    {{(i + 1) * 1000}}     integers, + - * // % and parentheses

A template's own annotations see the names that it is called with and nothing else, so nothing
calls itself, and lengths are bounded: what is written here costs no more than it says.

Source: kerchunk's "References specification", version 1.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT_LENGTH = 1 << 14
"""The longest text that is read, and that is made."""
EXPRESSION_LENGTH = 256
"""The longest text between braces."""
LARGEST = 2**63 - 1
"""No integer may become larger, nor smaller than its negative."""

_ANNOTATION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class TemplateError(ValueError):
    """A text that cannot be rendered; the message says why."""


class Template:
    """A text that was looked at once, to be rendered many times."""

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        """Understand a text.

        Raises:
            TemplateError: too long, or something between braces that is not understood.
        """
        if len(text) > TEXT_LENGTH:
            raise TemplateError(
                f"a text has {len(text)} characters; at most {TEXT_LENGTH} are read"
            )
        self.text = text
        # Literal, expression, literal, ...
        self._parts: list[str | ast.expr] = [
            _parse(part) if number % 2 else part
            for number, part in enumerate(_ANNOTATION.split(text))
        ]

    @property
    def is_literal(self) -> bool:
        """Whether there is nothing to render."""
        return len(self._parts) == 1

    def render(
        self, values: Mapping[str, int | str], functions: Mapping[str, Template] | None = None
    ) -> str:
        """The text with its annotations replaced.

        Args:
            values: what names stand for.
            functions: templates that are called.

        Raises:
            TemplateError: a name that is not known, an integer or a text that becomes too large.
        """
        done: list[str] = []
        length = 0
        for part in self._parts:
            text = part if isinstance(part, str) else str(_evaluate(part, values, functions or {}))
            length += len(text)
            if length > TEXT_LENGTH:
                raise TemplateError(
                    f"{_short(self.text)} becomes longer than {TEXT_LENGTH} characters"
                )
            done.append(text)
        return "".join(done)


@lru_cache(1024)
def compile_template(text: str) -> Template:
    """`Template`, remembered: a document uses few different ones."""
    return Template(text)


class Templates:
    """The templates of a document."""

    def __init__(self, bodies: Mapping[str, str]) -> None:
        """Understand them.

        Args:
            bodies: texts by name.

        Raises:
            TemplateError: one that is not understood.
        """
        self.values: dict[str, int | str] = {}
        """Those without annotations."""
        self.functions: dict[str, Template] = {}
        """Those with annotations, which are called."""
        for name, body in bodies.items():
            template = Template(body)
            if template.is_literal:
                self.values[name] = body
            else:
                self.functions[name] = template

    def __bool__(self) -> bool:
        return bool(self.values or self.functions)

    def expand(self, text: str) -> str:
        """A text with its annotations replaced.

        Raises:
            TemplateError: it cannot be rendered.

        >>> Templates({"u": "server/path", "f": "{{c}}.nc"}).expand("http://{{u}}/{{f(c='x')}}")
        'http://server/path/x.nc'
        """
        return compile_template(text).render(self.values, self.functions)


def _parse(expression: str) -> ast.expr:
    if len(expression) > EXPRESSION_LENGTH:
        raise TemplateError(
            f"an expression has {len(expression)} characters; at most {EXPRESSION_LENGTH} are read"
        )
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise TemplateError(f"{{{{{_short(expression)}}}}} is not understood") from error


def _evaluate(
    node: ast.expr, values: Mapping[str, int | str], functions: Mapping[str, Template]
) -> int | str:
    """The value of an expression; its depth is bounded by its length."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(number)):
            return _bounded(number)
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id=name) if name in functions:
            raise TemplateError(f"template {name!r} needs values: {{{{{name}(...)}}}}")
        case ast.Name(id=name):
            raise TemplateError(f"{_short(name)} is neither a template nor a dimension")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_integer(operand, values, functions)
        case ast.BinOp(left=left, op=operator, right=right):
            return _compute(
                operator, _integer(left, values, functions), _integer(right, values, functions)
            )
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if (
            name in functions and all(keyword.arg for keyword in keywords)
        ):
            given = {str(k.arg): _evaluate(k.value, values, functions) for k in keywords}
            return functions[name].render(given)
        case _:
            pass
    raise TemplateError(f"{{{{{_short(ast.unparse(node))}}}}} is not understood")


def _integer(
    node: ast.expr, values: Mapping[str, int | str], functions: Mapping[str, Template]
) -> int:
    value = _evaluate(node, values, functions)
    if isinstance(value, str):
        raise TemplateError(f"{_short(value)} is not an integer")
    return value


def _compute(operator: ast.operator, left: int, right: int) -> int:
    match operator:
        case ast.Add():
            return _bounded(left + right)
        case ast.Sub():
            return _bounded(left - right)
        case ast.Mult():
            return _bounded(left * right)
        case ast.FloorDiv() if right:
            return _bounded(left // right)
        case ast.Mod() if right:
            return left % right
        case ast.FloorDiv() | ast.Mod():
            raise TemplateError(f"{left} is divided by zero")
        case _:
            raise TemplateError("only + - * // % are understood between integers")


def _bounded(number: int) -> int:
    if abs(number) > LARGEST:
        raise TemplateError("an integer becomes larger than 64 bits hold")
    return number


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")  # noqa: PLR2004  a line's half

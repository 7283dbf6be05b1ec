"""Texts with `{{...}}` in reference documents, without the template engine that they come from.

The specification renders them by jinja2, which can compute for ever and is no dependency of
gpuzarr. What reference files hold is far less, and only that is understood between the braces:

    {{u}}                  a template, or a dimension of a generated reference
    {{f(c='text')}}        a template that has annotations itself, with values for their names
    {{(i + 1) * 1000}}     integers, + - * // % and parentheses

A template's own annotations see the names that it is called with and nothing else, so nothing
calls itself; lengths and steps are bounded: what is written here costs no more than it says.

Source: kerchunk's "References specification", version 1.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT_LENGTH = 1 << 14
"""The longest text that is read, and that is made."""
EXPRESSION_LENGTH = 256
"""The longest text between braces."""
LARGEST = 2**63 - 1
"""No integer may become larger, nor smaller than its negative."""
MOST_STEPS = 1 << 14
"""Names, numbers, operations and calls that one text may take to render."""

_ANNOTATION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class TemplateError(ValueError):
    """A text that cannot be rendered; the message says why."""


class Steps:
    """How many steps rendering may still take, of one text or of many."""

    __slots__ = ("left",)

    def __init__(self, most: int = MOST_STEPS) -> None:
        """Allow so many."""
        self.left = most

    def take(self) -> None:
        """Take one.

        Raises:
            TemplateError: none is left.
        """
        self.left -= 1
        if self.left < 0:
            raise TemplateError("the templates take too many steps to render")


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
        self,
        values: Mapping[str, int | str],
        functions: Mapping[str, Template] | None = None,
        steps: Steps | None = None,
    ) -> str:
        """The text with its annotations replaced.

        Args:
            values: what names stand for.
            functions: templates that are called.
            steps: those that may be taken; None: `MOST_STEPS`.

        Raises:
            TemplateError: a name that is not known, an integer or a text that becomes too large,
                too many steps.
        """
        scope = _Scope(values, functions or {}, steps or Steps())
        done: list[str] = []
        length = 0
        for part in self._parts:
            text = part if isinstance(part, str) else str(_evaluate(part, scope))
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


class _Scope(NamedTuple):
    """What an expression sees."""

    values: Mapping[str, int | str]
    functions: Mapping[str, Template]
    steps: Steps


def _evaluate(node: ast.expr, scope: _Scope) -> int | str:
    """The value of an expression; its depth is bounded by its length."""
    scope.steps.take()
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(number)):
            return _bounded(number)
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in scope.values:
            return scope.values[name]
        case ast.Name(id=name) if name in scope.functions:
            raise TemplateError(f"template {name!r} needs values: {{{{{name}(...)}}}}")
        case ast.Name(id=name):
            raise TemplateError(f"{_short(name)} is neither a template nor a dimension")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_integer(operand, scope)
        case ast.BinOp(left=left, op=operator, right=right):
            return _compute(operator, _integer(left, scope), _integer(right, scope))
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if (
            name in scope.functions and all(keyword.arg for keyword in keywords)
        ):
            given = {str(k.arg): _evaluate(k.value, scope) for k in keywords}
            return scope.functions[name].render(given, steps=scope.steps)
        case _:
            pass
    raise TemplateError(f"{{{{{_short(ast.unparse(node))}}}}} is not understood")


def _integer(node: ast.expr, scope: _Scope) -> int:
    value = _evaluate(node, scope)
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

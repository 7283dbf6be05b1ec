"""What other packages add to gpuzarr by entry points: codecs, data types, stores and engines.

    [project.entry-points."gpuzarr.codecs"]
    "example.run_length" = "example_package:codec"

The installed packages are searched only for names that gpuzarr does not know by itself. What is
found is told together with where it is from, so that every error about it names the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gpuzarr.errors import UnsupportedError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Plugin(NamedTuple):
    """An object of another package."""

    value: Any
    origin: str
    """Its package and entry point, as errors say them."""


def find_plugin(group: str, name: str) -> Plugin | None:
    """The object that an installed package provides as `name`; None when none does.

    Raises:
        UnsupportedError: a package provides it, and cannot be loaded.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415  slow, and seldom needed

    # Where several packages provide a name, the first on `sys.path` wins, as for modules.
    for entry_point in entry_points(group=group, name=name):
        origin = _origin(entry_point, group)
        try:
            return Plugin(entry_point.load(), origin)
        except Exception as error:
            raise UnsupportedError(
                f"{origin} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
    return None


def _origin(entry_point: EntryPoint, group: str) -> str:
    package = "a package"
    if entry_point.dist is not None:
        package = f"the package {entry_point.dist.name} {entry_point.dist.version}"
    return f"{package} (entry point {entry_point.name!r} = {entry_point.value!r} in {group!r})"

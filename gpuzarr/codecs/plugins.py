"""Codecs that gpuzarr does not know: from other packages, or a reason that says what would help.

A package adds a codec by an entry point of the group "gpuzarr.codecs" that is named as the codec:

    [project.entry-points."gpuzarr.codecs"]
    "example.rle" = "example.gpuzarr:RunLength"

It is looked up only when metadata name a codec that is not in gpuzarr's own table. Codecs that
numcodecs knows, its own and those of other packages, need no such entry point.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gpuzarr.errors import UnsupportedError
from gpuzarr.metadata.document import shorten
from gpuzarr.plugins import find_plugin
from gpuzarr.program import HostOnly, canonical_json, dtype_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    import numpy as np

    from gpuzarr.codecs.chain import Chain
    from gpuzarr.metadata.model import CodecMetadata
    from gpuzarr.program import Step

GROUP = "gpuzarr.codecs"
PREFIX = "numcodecs."


@runtime_checkable
class DecodingCodec(Protocol):
    """A codec of another package that decodes bytes on the host."""

    def decode(
        self, encoded: memoryview, configuration: Mapping[str, Any], nbytes: int | None
    ) -> bytes | bytearray | memoryview | np.ndarray:
        """Undo the codec.

        Args:
            encoded: what the codec gave when the chunk was written.
            configuration: the codec's configuration from the array's metadata.
            nbytes: how many bytes must come out, where that is known.

        Called from many threads at once. An exception makes the chunk a damaged one.
        """
        ...


@runtime_checkable
class LoweringCodec(Protocol):
    """A codec of another package that is made of steps that engines have already."""

    def lower(self, configuration: Mapping[str, Any]) -> tuple[Step, ...]:
        """The steps that undo the codec, in decode order."""
        ...


def lower_unknown(chain: Chain, codec: CodecMetadata) -> bool:
    """Lower a codec that is not in the table; False when that is not possible."""
    chain.foreign.add(codec.name)
    try:
        plugin = find_codec(codec.name)
    except UnsupportedError:  # `explain_unknown` says why
        return False
    if isinstance(plugin, LoweringCodec):
        _end_array(chain)
        for step in reversed(plugin.lower(codec.configuration)):
            chain.push(step)
        return True
    if isinstance(plugin, DecodingCodec) or _is_known_to_numcodecs(codec.name):
        dtype = chain.dtype
        if chain.stage == "array" and dtype.hasobject:
            chain.refuse(
                f"codec {codec.name!r} would have to make objects, which only codecs of gpuzarr do"
            )
        _end_array(chain)
        plain = dtype.names is None and not dtype.hasobject
        chain.push(
            HostOnly(
                codec.name,
                canonical_json(codec.configuration),
                dtype_name(dtype) if plain else None,
            )
        )
        return True
    return False


def _end_array(chain: Chain) -> None:
    """Take an unknown codec among array codecs for the array -> bytes codec."""
    if chain.stage == "array":
        chain.to_bytes(chain.dtype)


def find_codec(name: str) -> object | None:
    """The object that another package provides as codec `name`; None when none does.

    Raises:
        UnsupportedError: a package provides it, and cannot be loaded.
    """
    plugin = find_plugin(GROUP, name)
    return None if plugin is None else plugin.value


def explain_unknown(name: str, known: Mapping[str, object]) -> str:
    """Why a codec that is not in the table is not supported, and what would help."""
    identifier = name.removeprefix(PREFIX)
    if identifier == "pickle":
        return (
            "codec 'numcodecs.pickle' is refused: unpickling runs code that the data bring along; "
            "write the array anew with vlen-utf8, vlen-bytes or json2"
        )
    if identifier.startswith("imagecodecs_"):
        return (
            f"codec {name!r} is the package imagecodecs': pip install imagecodecs-numcodecs, or "
            "call imagecodecs.numcodecs.register_codecs() before the array is opened"
        )
    try:
        plugin = find_plugin(GROUP, name)
    except UnsupportedError as error:
        return f"codec {name!r}: {error.message}"
    if plugin is not None:
        return (
            f"codec {name!r} is provided by {plugin.origin}, whose object of type "
            f"{type(plugin.value).__name__} has neither a method `decode` nor a method `lower`"
        )
    for group, wanted in (("zarr.codecs", name), ("numcodecs.codecs", identifier)):
        for entry_point in _entry_points(group, wanted):
            package = entry_point.dist.name if entry_point.dist else entry_point.value
            return (
                f"codec {name!r} is provided by the package {package} in the group {group!r}, but "
                f"gpuzarr needs an entry point {name!r} in the group {GROUP!r}"
            )
    names = ", ".join(sorted(name for name in known if not name.startswith(PREFIX)))
    return (
        f"codec {shorten(name)} is not known; a package can provide it by an entry point in the "
        f"group {GROUP!r} (known are {names}, and what numcodecs has as {PREFIX}...)"
    )


def _is_known_to_numcodecs(name: str) -> bool:
    """Whether numcodecs has a codec, by entry point or because a package registered it already."""
    if not name.startswith(PREFIX) or name == f"{PREFIX}pickle":
        return False
    identifier = name.removeprefix(PREFIX)
    # Not imported for this: who has registered a codec has imported it.
    registry = sys.modules.get("numcodecs.registry")
    registered = getattr(registry, "codec_registry", {})
    return identifier in registered or bool(_entry_points("numcodecs.codecs", identifier))


def _entry_points(group: str, name: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415  slow, and seldom needed

    return tuple(entry_points(group=group, name=name))

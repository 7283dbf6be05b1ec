"""bytes -> bytes codecs that compress, or prepare bytes for it.

What a writer chose (levels, block sizes) does not matter for reading: compressed streams say what
they are. Only LZMA has forms that do not.
"""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING, Any, Literal

from gpuzarr.codecs.chain import Codec
from gpuzarr.codecs.configuration import malformed, take_int
from gpuzarr.program import Decompress, HostOnly, Unshuffle, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuzarr.codecs.chain import Chain

MAXIMUM_ITEMSIZE = 1 << 16
"""Elements wider than this are not shuffled by any writer; larger values are mistakes."""

BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")


def compressor(
    name: Literal["zstd", "gzip", "zlib", "lz4", "bz2"],
) -> Callable[[Chain, Mapping[str, Any]], None]:
    """A compressor whose streams need no configuration."""

    def lower_compressor(chain: Chain, configuration: Mapping[str, Any]) -> None:
        take_int(name, configuration, "level", 0)
        chain.push(Decompress(name))

    return lower_compressor


def blosc(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """Blosc: frames say everything; only the compressor's name is kept where it is rare."""
    name = configuration.get("cname", "lz4")
    if name not in BLOSC_COMPRESSORS:
        malformed("blosc", f"'cname' must be one of {', '.join(BLOSC_COMPRESSORS)}, not {name!r}")
    settings = {"cname": name} if name == "snappy" else {}
    chain.push(Decompress("blosc", canonical_json(settings)))


def lzma_forms(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """LZMA: the container (xz, alone, raw), and for raw streams the filters."""
    form = take_int("lzma", configuration, "format", lzma.FORMAT_XZ)
    if form not in (lzma.FORMAT_AUTO, lzma.FORMAT_XZ, lzma.FORMAT_ALONE, lzma.FORMAT_RAW):
        malformed("lzma", f"'format' must be 0, 1, 2 or 3, not {form}")
    settings: dict[str, Any] = {"format": form}
    if form == lzma.FORMAT_RAW:
        filters = configuration.get("filters")
        if not isinstance(filters, list | tuple) or not all(
            isinstance(each, dict) and type(each.get("id")) is int for each in filters
        ):
            malformed("lzma", f"raw streams need 'filters', a list of objects, not {filters!r}")
        settings["filters"] = list(filters)
    chain.push(Decompress("lzma", canonical_json(settings)))


def shuffle(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `shuffle`; in v3 the element size may be left to the data type."""
    default = 4 if chain.dtype.hasobject else chain.dtype.itemsize
    itemsize = take_int("shuffle", configuration, "elementsize", default)
    if itemsize > MAXIMUM_ITEMSIZE:
        malformed("shuffle", f"'elementsize' is {itemsize}")
    if itemsize > 1:
        chain.push(Unshuffle(itemsize))


def base64(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `base64`."""
    del configuration
    chain.push(HostOnly("numcodecs.base64"))


COMPRESSORS = {
    "blosc": Codec("bytes -> bytes", blosc),
    "gzip": Codec("bytes -> bytes", compressor("gzip")),
    "zstd": Codec("bytes -> bytes", compressor("zstd")),
    "numcodecs.blosc": Codec("bytes -> bytes", blosc),
    "numcodecs.gzip": Codec("bytes -> bytes", compressor("gzip")),
    "numcodecs.zstd": Codec("bytes -> bytes", compressor("zstd")),
    "numcodecs.zlib": Codec("bytes -> bytes", compressor("zlib")),
    "numcodecs.bz2": Codec("bytes -> bytes", compressor("bz2")),
    "numcodecs.lz4": Codec("bytes -> bytes", compressor("lz4")),
    "numcodecs.lzma": Codec("bytes -> bytes", lzma_forms),
    "numcodecs.shuffle": Codec("bytes -> bytes", shuffle),
    "numcodecs.base64": Codec("bytes -> bytes", base64),
}

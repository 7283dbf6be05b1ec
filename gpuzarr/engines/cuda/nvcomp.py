"""nvCOMP through its C interface: the only file that knows it.

The library is found by the files of its distribution, for a `nvidia/__init__.py` of somebody else
could hide its package, then by the names under which the loader knows it. The calls that are
used are the same from 5.0 to 6.0 but for one name and one parameter. All options are structures of
64 bytes, passed by value, in which zeros mean the defaults.

The backend is always CUDA: the decompression engine of newer GPUs reports no damage.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from ctypes import POINTER, Structure, byref, c_bool, c_char, c_int, c_int32, c_size_t, c_uint32
from ctypes import c_void_p as c_pointer
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gpuzarr.engines.cuda.device import Alignment
from gpuzarr.errors import DeviceError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuzarr.engines.cuda.device import Stream, Streams

DISTRIBUTIONS: Final = tuple(
    f"nvidia-{name}-cu{cuda}" for cuda in (13, 12) for name in ("libnvcomp", "nvcomp")
)
"""What may bring the library, the newest CUDA first."""
SONAMES: Final = ("libnvcomp.so.6", "libnvcomp.so.5", "nvcomp64_6.dll", "nvcomp64_5.dll")
OLDEST: Final = 5000
"""The oldest version, as the library counts: 1000 times the major one."""

FORMATS: Final[Mapping[str, str]] = {
    "zstd": "Zstd",
    "lz4": "LZ4",
    "snappy": "Snappy",
    "deflate": "Deflate",
    "gzip": "Gzip",
}
"""The names that the library has for formats."""
BACKEND_CUDA: Final = 2
OPTIONS_NBYTES: Final = 64
SUCCESS: Final = 0


class Options(Structure):
    """Options of a decompression of any format: they differ behind the backend, where zeros do."""

    _fields_: ClassVar = [("backend", c_int), ("rest", c_char * (OPTIONS_NBYTES - 4))]


class Alignments(Structure):
    """nvcompAlignmentRequirements_t."""

    _fields_: ClassVar = [("input", c_size_t), ("output", c_size_t), ("temp", c_size_t)]


class Properties(Structure):
    """nvcompProperties_t."""

    _fields_: ClassVar = [("version", c_uint32), ("cudart_version", c_uint32)]


class Polynomial(Structure):
    """nvcompCRC32Spec_t."""

    _fields_: ClassVar = [
        ("poly", c_uint32),
        ("init", c_uint32),
        ("ref_in", c_bool),
        ("ref_out", c_bool),
        ("xorout", c_uint32),
        ("reserved", c_char * 16),
    ]


class KernelChoice(Structure):
    """nvcompCRC32KernelConf_t."""

    _fields_: ClassVar = [
        ("kernel_kind", c_int),
        ("bytes_per_read", c_int32),
        ("blocks_per_msg", c_int32),
        ("reserved", c_char * 20),
    ]


class ChecksumOptions(Structure):
    """nvcompBatchedCRC32Opts_t."""

    _fields_: ClassVar = [
        ("spec", Polynomial),
        ("kernel_conf", KernelChoice),
        ("reserved", c_char * 64),
    ]


ALL_ONES: Final = 0xFFFFFFFF
POLYNOMIALS: Final[Mapping[str, int]] = {"crc32": 0x04C11DB7, "crc32c": 0x1EDC6F41}
CHECKSUM_CALL: Final = "nvcompBatchedCRC32Async"
ONLY_SEGMENT: Final = 0


def find_library() -> str | None:
    """The library's file, or the name under which the loader finds it; None: it is not here."""
    for name in DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in distribution.files or ():
            if file.name in SONAMES:
                return str(distribution.locate_file(file))
    for name in SONAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


class Nvcomp:
    """See `gpuzarr.engines.cuda.device.Decompressor`."""

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        """Load the library.

        Args:
            library: one that is loaded already.

        Raises:
            UnsupportedError: it is not here, cannot be loaded, or is too old.
        """
        self._library = _load() if library is None else library
        properties = Properties()
        self._call("nvcompGetProperties", byref(properties), argtypes=[POINTER(Properties)])
        version = int(properties.version)
        self.version = f"nvCOMP {version // 1000}.{version // 100 % 10}.{version % 100}"
        if version < OLDEST:
            raise UnsupportedError(f"{self.version} is too old; gpuzarr needs nvCOMP 5 or later")
        self._options = Options(backend=BACKEND_CUDA)

    def unsupported(self, format: str) -> str | None:  # noqa: A002  the word for it
        """Why a format or a checksum cannot be computed; None when it can."""
        if format in POLYNOMIALS:
            names: tuple[str, ...] = ("nvcompBatchedCRC32GetHeuristicConf", CHECKSUM_CALL)
        elif format in FORMATS:
            names = (f"nvcompBatched{FORMATS[format]}DecompressAsync",)
        else:
            return f"nvCOMP has no {format}"
        if all(hasattr(self._library, name) for name in names):
            return None
        return f"{self.version} has no {format}; a newer one has"

    def alignment(self, format: str) -> Alignment:  # noqa: A002
        """What addresses must be multiples of."""
        found = Alignments()
        name = f"nvcompBatched{FORMATS[format]}DecompressGetRequiredAlignments"
        self._call(name, self._options, byref(found), argtypes=[Options, POINTER(Alignments)])
        return Alignment(int(found.input), int(found.output), int(found.temp))

    def temp_nbytes(self, format: str, count: int, most: int, total: int) -> int:  # noqa: A002
        """Temporary memory for a call."""
        name = f"nvcompBatched{FORMATS[format]}DecompressGetTempSize"
        nbytes = c_size_t()
        argtypes: list[Any] = [c_size_t, c_size_t, Options, POINTER(c_size_t), c_size_t]
        arguments: list[Any] = [count, most, self._options, byref(nbytes), total]
        if hasattr(self._library, name):
            argtypes.append(c_pointer)  # since 6.0 it takes a stream
            arguments.append(None)
        else:
            name += "Async"
        asked = f"{count:,} streams, {total:,} bytes in all, {most:,} the largest"
        self._call(name, *arguments, argtypes=argtypes, asked=asked)
        return int(nbytes.value)

    def decompress(  # noqa: PLR0913  a call of C
        self,
        format: str,  # noqa: A002
        streams: Streams,
        *,
        most: int,
        temp: int,
        temp_nbytes: int,
        stream: Stream,
    ) -> None:
        """Start decoding; see `Decompressor.decompress`."""
        pointers = [c_pointer] * 4
        self._call(
            f"nvcompBatched{FORMATS[format]}DecompressAsync",
            streams.source,
            streams.nbytes,
            streams.capacity,
            streams.actual,
            streams.count,
            temp if temp_nbytes else None,
            temp_nbytes,
            streams.target,
            self._options,
            streams.status,
            stream_address(stream),
            argtypes=[
                *pointers,
                *(c_size_t, c_pointer, c_size_t, c_pointer, Options, c_pointer, c_pointer),
            ],
            asked=f"{streams.count:,} streams of {most:,} bytes at most, with {temp_nbytes:,} bytes"
            " of temporary memory",
        )

    def checksum(  # noqa: PLR0913  a call of C
        self,
        algorithm: str,
        *,
        source: int,
        nbytes: int,
        count: int,
        most: int,
        value: int,
        stream: Stream,
    ) -> None:
        """Start computing CRCs; see `Decompressor.checksum`."""
        polynomial = Polynomial(POLYNOMIALS[algorithm], ALL_ONES, True, True, ALL_ONES)  # noqa: FBT003
        choice = KernelChoice()
        asked = f"the {algorithm} of {count:,} ranges of {most:,} bytes at most"
        self._call(
            "nvcompBatchedCRC32GetHeuristicConf",
            *(None, count, byref(choice), max(most, 1), None),
            argtypes=[c_pointer, c_size_t, POINTER(KernelChoice), c_size_t, c_pointer],
            asked=asked,
        )
        self._call(
            CHECKSUM_CALL,
            *(source, nbytes, count, value, ChecksumOptions(polynomial, choice)),
            *(ONLY_SEGMENT, None, stream_address(stream)),
            argtypes=[
                *(c_pointer, c_pointer, c_size_t, c_pointer, ChecksumOptions),
                *(c_int, c_pointer, c_pointer),
            ],
            asked=asked,
        )

    def _call(self, name: str, *arguments: Any, argtypes: list[Any], asked: str = "") -> None:
        """Call a function of the library.

        Args:
            name: of the function.
            arguments: its arguments.
            argtypes: their types.
            asked: what the call is about, for errors.

        Raises:
            DeviceError: it gave another status than success.
        """
        function = getattr(self._library, name)
        if function.argtypes is None:
            function.argtypes, function.restype = argtypes, c_int
        status = function(*arguments)
        if status != SUCCESS:
            subject = f" (for {asked})" if asked else ""
            raise DeviceError(f"{name} gave status {status}: {self._describe(status)}{subject}")

    def _describe(self, status: int) -> str:
        function = getattr(self._library, "nvcompGetStatusString", None)
        if function is None:
            return "an unknown error"
        function.argtypes, function.restype = [c_int], ctypes.c_char_p
        return (function(status) or b"an unknown error").decode(errors="replace")


def stream_address(stream: Stream) -> int | None:
    """The address of a stream of CuPy's; None is the default stream."""
    return getattr(stream, "ptr", stream) or None


def _load() -> ctypes.CDLL:
    path = find_library()
    if path is None:
        raise UnsupportedError(
            "nvCOMP is not installed: pip install nvidia-libnvcomp-cu13 (or -cu12, by your CUDA)"
        )
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise UnsupportedError(f"nvCOMP cannot be loaded: {error}") from error

"""What the directory of a zip archive says of its entries, and whether that can be true.

The standard library reads the directory. Nothing in it is believed further than it can be checked:
an entry's name must stand before its data too, the data must end before the next entry begins, and
sizes must be possible before memory is taken for them.
"""

from __future__ import annotations

import io
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from gpuzarr.errors import GpuzarrError, StoreError, UnsupportedError
from gpuzarr.stores.files import advise
from gpuzarr.stores.store import check_key
from gpuzarr.stores.zip.source import LARGEST_DIRECTORY

if TYPE_CHECKING:
    from zipfile import ZipInfo

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
"""Compression methods, as the archive numbers them."""

LOCAL_HEADER_NBYTES = 30
_LOCAL_SIGNATURE = b"PK\x03\x04"
_END_NBYTES = 22
_END_SIGNATURE = b"PK\x05\x06"
_WIDE_COUNT = 0xFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_PATCHED = 0x20
_UTF8 = 0x800
_UNIX = 3
_DEFLATE_RATIO = 1032
"""No deflate stream expands further: two bits for a match of 258 bytes."""
_DESCRIBED = 0x8
_DESCRIPTOR_NBYTES = 16
"""Checksum and sizes behind the data, where the writer could not go back; with their signature."""
MOST_EXTRA_NBYTES = (1 << 16) - 1
"""Bytes between the name in a local header and the data."""


class Entry(NamedTuple):
    """One object in an archive."""

    header: int
    """Offset of its local header in the file."""
    end: int
    """Where the next entry or the directory begins: its data must end before."""
    stored: int
    """Bytes of its data as they lie in the file."""
    size: int
    """Bytes of the object."""
    crc: int
    """CRC-32 of the object."""
    method: int
    """`STORED`, `DEFLATED`, or another that may be unsupported."""
    flags: int
    """General purpose flags: encryption, the encoding of the name."""
    is_link: bool
    """Whether the object is the target of a symbolic link."""
    name: str
    """Its name, as the archive spells it."""

    @property
    def written_name(self) -> bytes:
        """Its name, as it stands in the archive."""
        return self.name.encode("utf-8" if self.flags & _UTF8 else "cp437")

    @property
    def header_nbytes(self) -> int:
        """Bytes of its local header with the name, without the extra fields behind that."""
        return LOCAL_HEADER_NBYTES + len(self.written_name)

    def guess_data(self) -> int | None:
        """Where its data begin if nothing lies between them and what follows; None: surely not.

        Only the local header knows. To read it together with the data, one must know before.
        """
        behind = _DESCRIPTOR_NBYTES if self.flags & _DESCRIBED else 0
        guess = self.end - behind - self.stored
        least = self.header + self.header_nbytes
        return guess if least <= guess <= least + MOST_EXTRA_NBYTES else None


def read_directory(file: io.RawIOBase, name: str) -> dict[str, Entry]:
    """Every object of an archive by key; where a name occurs twice, the last one counts.

    Folders are left out, and names that are no keys, such as absolute ones and those with "..":
    they cannot be asked for.

    Raises:
        StoreError: this is no zip archive, or a damaged one.
    """
    import zipfile  # noqa: PLC0415 -- brings five other modules, and most arrays are in no archive

    class DirectoryReader(io.BufferedReader):
        """Refuses to read more than a directory can reasonably have, before memory is taken."""

        def read(self, size: int | None = -1, /) -> bytes:
            if size is not None and size > LARGEST_DIRECTORY:
                raise zipfile.BadZipFile("its directory is too large")
            return super().read(size)

    try:
        reader = DirectoryReader(file)
        with reader, zipfile.ZipFile(reader) as archive:
            infos, directory_start = archive.infolist(), archive.start_dir
            promised = _read_count(reader, len(archive.comment))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
        raise StoreError(
            f"this is not a zip archive, or a damaged one ({error}): copy it again", store=name
        ) from error
    except GpuzarrError:
        raise
    except OSError as error:
        raise StoreError(f"cannot read {name}: {advise(error)}", store=name) from error
    if promised is not None and promised != len(infos) & 0xFFFF:
        # Believing it would make chunks missing, and missing chunks are read as the fill value.
        raise StoreError(
            f"this zip archive is damaged: {promised} entries are promised, {len(infos)} are there",
            store=name,
        )
    entries: dict[str, Entry] = {}
    ends = _find_ends([info.header_offset for info in infos], directory_start)
    for info in infos:
        # zipfile tidies names: it cuts them at a NUL and, on Windows, turns backslashes.
        if (
            not info.filename.endswith("/")
            and _is_key(info.orig_filename)
            and _is_key(info.filename)
        ):
            entries[info.filename] = _make_entry(info, ends[info.header_offset])
    return entries


def check_entry(entry: Entry, key: str, file_nbytes: int) -> None:
    """Refuse an entry that cannot be read, by what the directory says of it.

    Raises:
        UnsupportedError: it is encrypted or compressed by another method.
        StoreError: its sizes or its place cannot be true.
    """
    if entry.flags & _ENCRYPTED:
        raise UnsupportedError(
            "this zip entry is encrypted: unpack the archive with its password first", key=key
        )
    if entry.flags & _PATCHED or entry.method not in {STORED, DEFLATED, BZIP2, LZMA}:
        raise UnsupportedError(
            f"this zip entry is compressed by method {entry.method}; stored, deflate, bzip2 and "
            "LZMA are supported: unpack the archive, or write it again",
            key=key,
        )
    if entry.is_link:
        raise StoreError("this zip entry is a symbolic link, which is not followed", key=key)
    if (entry.method == STORED and entry.stored != entry.size) or (
        entry.method == DEFLATED and entry.size > entry.stored * _DEFLATE_RATIO
    ):
        raise StoreError(
            f"the archive is damaged: {entry.stored} stored bytes cannot hold {entry.size}", key=key
        )
    data_start = entry.header + LOCAL_HEADER_NBYTES
    if entry.header < 0 or data_start + entry.stored > min(entry.end, file_nbytes):
        raise _overlapping(key)


def find_data(header: memoryview, entry: Entry, key: str) -> int:
    """The offset of an entry's data in the file, from its local header and the name behind it.

    Raises:
        StoreError: the header is not this entry's, or its data run into the next entry.
    """
    name_nbytes, extra_nbytes = struct.unpack_from("<HH", header, 26)
    name = entry.written_name
    if (
        header[:4] != _LOCAL_SIGNATURE
        or header[LOCAL_HEADER_NBYTES:] != name
        or name_nbytes != len(name)
    ):
        raise StoreError("the archive is damaged: directory and entry disagree", key=key)
    start = entry.header + LOCAL_HEADER_NBYTES + name_nbytes + int(extra_nbytes)
    if start + entry.stored > entry.end:
        raise _overlapping(key)
    return int(start)


def check_crc(entry: Entry, key: str, crc: int) -> None:
    """Compare the checksum of a whole object with the stored one."""
    if crc != entry.crc:
        raise StoreError("the archive is damaged: the entry's CRC-32 does not match", key=key)


def _read_count(archive: io.BufferedReader, comment_nbytes: int) -> int | None:
    """How many entries the record at the archive's end counts, modulo 2^16, which is all it holds.

    None where that record stands elsewhere or refers to a wider one.
    """
    archive.seek(-_END_NBYTES - comment_nbytes, io.SEEK_END)
    record = archive.read(_END_NBYTES)
    (count,) = struct.unpack_from("<H", record, 10)
    return None if record[:4] != _END_SIGNATURE or count == _WIDE_COUNT else int(count)


def _make_entry(info: ZipInfo, end: int) -> Entry:
    return Entry(
        info.header_offset,
        end,
        info.compress_size,
        info.file_size,
        info.CRC,
        info.compress_type,
        info.flag_bits,
        info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16),
        info.orig_filename,
    )


def _find_ends(headers: list[int], directory_start: int) -> dict[int, int]:
    """For each entry's header, where the next one begins; for the last one, the directory."""
    ordered = sorted(set(headers))
    return dict(zip(ordered, [*ordered, directory_start][1:], strict=True))


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except StoreError:
        return False
    return True


def _overlapping(key: str) -> StoreError:
    return StoreError(
        "the archive is damaged, or a zip bomb: the entry runs into what lies behind it", key=key
    )

"""Open a store: `open`, `open_array`, `open_group`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from gpuzarr.array import Array
from gpuzarr.errors import MetadataError, NotFoundError
from gpuzarr.group import Group, make_node
from gpuzarr.metadata.model import GroupMetadata
from gpuzarr.node import (
    Kind,
    OpenOptions,
    as_int,
    check_names,
    check_options,
    join,
    load_node,
    normalize_path,
)
from gpuzarr.stores.resolve import open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from gpuzarr.stores.store import Store

    StoreLike = str | os.PathLike[str] | Mapping[str, bytes] | Store


class OpenArguments(TypedDict, total=False):
    """The arguments of `gpuzarr.open`, which says what they mean."""

    path: str
    device: str
    decode: Literal["auto", "device", "host"]
    io: Literal["auto", "kvikio", "pinned"]
    memory_limit: int | None
    consolidated: bool | Literal["auto"]
    zarr_format: Literal[2, 3] | None
    storage_options: Mapping[str, Any] | None
    follow_symlinks: bool
    threads: int | None
    cache_nbytes: int | None


def open(store: StoreLike, **arguments: Unpack[OpenArguments]) -> Array | Group:  # noqa: A001  as zarr.open
    """Open the array or group at a path of a store, of either format.

    Args:
        store: path of a directory, a `.zip` file or a reference file (kerchunk), a URL (`file://`,
            `s3://`, `gs://`, `az://`, `http(s)://`), a mapping of keys to bytes, a store of
            obstore's, fsspec's or zarr-python's, or an object with the `gpuzarr.Store` protocol.
        **arguments: all optional.

            path: the node's path inside the store; default the root.
            device: where results live: "cpu" (NumPy), "cuda" or "cuda:N" (CuPy), or "auto" (the
                default) for CUDA where it can be used and its arrays can have the dtype, else CPU.
            decode: where chunks are decoded for a CUDA result: "auto" (the default) for as much on
                the GPU as it can, where the CPU is not clearly faster by estimate, "device" to
                insist on the GPU, "host" to decode on the CPU (for data that one does not trust);
                without meaning for results on the CPU.
            io: how bytes reach a CUDA device: "kvikio" straight from local files, and from shards
                on HTTP servers and S3, where the program allows it, "pinned" through pinned memory,
                "auto" (the default) by kvikio from local files where GPUDirect Storage works; as
                above.
            memory_limit: bytes that a read may hold beyond its output, on the host and on the
                device; default 64 MiB, or one chunk a thread where that is more, and on a GPU a
                quarter of its free memory, 2 GiB at most.
            consolidated: use consolidated metadata: "auto" where there are some, True to insist,
                False to ignore them.
            zarr_format: 2 or 3 to look for that format only.
            storage_options: for URLs and reference files: credentials, region, ..., see
                `gpuzarr.stores.remote.options` and `gpuzarr.stores.references.store`.
            follow_symlinks: follow symbolic links that leave the store's directory.
            threads: CPU threads for one read; default one for each CPU that the process may use.
            cache_nbytes: bytes of whole objects that are kept decoded, for arrays with codecs after
                the sharding codec; default 64 MiB.

    Raises:
        NotFoundError: nothing there.
        MetadataError: documents that break their specification.
        UnsupportedError: a data type or store that is not available.
        StoreError: the storage failed.

    >>> gpuzarr.open(store)
    <gpuzarr.Group / in <dict in memory>, zarr v3>
    """
    return _open(store, arguments, None)


def open_array(store: StoreLike, **arguments: Unpack[OpenArguments]) -> Array:
    """Open an array; the arguments are those of `gpuzarr.open`.

    >>> gpuzarr.open_array(store, path="temperature")
    <gpuzarr.Array /temperature (4, 6) float32, chunks (2, 3), zarr v3>
    """
    node = _open(store, arguments, "array")
    if not isinstance(node, Array):  # load_node refuses it first
        raise NotFoundError("there is a group here, not an array", path=node.path)
    return node


def open_group(store: StoreLike, **arguments: Unpack[OpenArguments]) -> Group:
    """Open a group; the arguments are those of `gpuzarr.open`.

    >>> len(gpuzarr.open_group(store))
    2
    """
    node = _open(store, arguments, "group")
    if not isinstance(node, Group):  # load_node refuses it first
        raise NotFoundError("there is an array here, not a group", path=node.path)
    return node


def _open(store: StoreLike, arguments: OpenArguments, kind: Kind | None) -> Array | Group:
    _check_arguments(arguments)
    options = OpenOptions(
        device=arguments.get("device", "auto"),
        decode=arguments.get("decode", "auto"),
        io=arguments.get("io", "auto"),
        memory_limit=as_int(arguments.get("memory_limit")),
        consolidated=arguments.get("consolidated", "auto"),
        zarr_format=arguments.get("zarr_format"),
        threads=as_int(arguments.get("threads")),
        cache_nbytes=as_int(arguments.get("cache_nbytes")),
    )
    opened, inside = open_store(
        store,
        follow_symlinks=arguments.get("follow_symlinks", False),
        storage_options=arguments.get("storage_options"),
    )
    path = normalize_path(arguments.get("path", ""))
    path = join(inside, path) if path else inside
    metadata = load_node(
        opened,
        path,
        kind=kind,
        zarr_format=options.zarr_format,
        consolidated_too=options.consolidated is not False,
    )
    if (
        isinstance(metadata, GroupMetadata)
        and options.consolidated is True
        and metadata.consolidated is None
    ):
        raise MetadataError(
            "there are no consolidated metadata here; open with consolidated=False, or let the"
            " store's writer consolidate them",
            store=opened.name,
            path=path,
        )
    return make_node(opened, path, metadata, options)


def _check_arguments(arguments: OpenArguments) -> None:
    """Refuse what is misspelled or has no meaning, before anything is opened.

    Raises:
        TypeError: an argument that there is not, or of the wrong type.
        ValueError: a value that is not allowed.
    """
    check_names("open", arguments, OpenArguments.__annotations__)
    path = arguments.get("path", "")
    if not isinstance(path, str):
        raise TypeError(f"path={path!r}: must be a str")
    check_options(arguments)

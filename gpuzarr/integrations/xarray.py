"""xarray: groups as data sets, `xarray.open_dataset(store, engine="gpuzarr", device="cuda")`.

    group  ->  data store      ->  CF decoding by xarray      ->  data set
    array      lazy variable       times, masks, scales, text     data on `device`, coordinates not

What a data set holds is what xarray's engine "zarr" gives: names of dimensions, attributes, values
and encodings. Codecs in encodings are numcodecs' objects for v2, and for v3 the documents of the
metadata instead of zarr-python's objects, which is not needed for reading; `to_zarr` takes both.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numcodecs
import numpy as np
from xarray import DataTree, Variable
from xarray.backends import AbstractDataStore, BackendArray, BackendEntrypoint, list_engines
from xarray.backends.store import StoreBackendEntrypoint
from xarray.backends.zarr import DIMENSION_KEY, FillValueCoder
from xarray.core import indexing

from gpuzarr.api import OpenArguments, open_group
from gpuzarr.codecs.lower import CODECS
from gpuzarr.codecs.sharding import NAME as SHARDING
from gpuzarr.errors import GpuzarrError, MetadataError, NotFoundError
from gpuzarr.group import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike
    from xarray import Dataset

    from gpuzarr.array import Array

DECODERS = (
    *("mask_and_scale", "decode_times", "concat_characters", "decode_coords"),
    *("use_cftime", "decode_timedelta"),
)
"""xarray's choices how to decode; `xarray.open_dataset` says what they mean."""

OPEN_ARGUMENTS = tuple(name for name in OpenArguments.__annotations__ if name != "path")
METADATA_NAMES = ("zarr.json", ".zgroup", ".zmetadata")
NUMBERS = "biufc"
"""Kinds of dtype that a GPU can hold."""


class GpuzarrArray(BackendArray):
    """An array for xarray: each of xarray's ways to index is one read.

    Args:
        array: what to read; xarray sees its shape and dtype.
    """

    __slots__ = ("_array", "dtype", "shape")

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def move_to(self, device: str) -> None:
        """Give results on another device from here on."""
        self._array = self._array.with_options(device=device)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        ways: dict[type, Any] = {
            indexing.BasicIndexer: self._array,
            indexing.OuterIndexer: self._array.oindex,
            indexing.VectorizedIndexer: self._array.vindex,
        }
        # Not by xarray's adapter, which turns negative steps and fails where they select nothing.
        return ways[type(key)][key.tuple]

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> ArrayLike:
        """As `[]`, in a thread."""
        values: ArrayLike = await asyncio.to_thread(self.__getitem__, key)
        return values


class GpuzarrDataStore(AbstractDataStore):
    """A group's variables and attributes, not decoded; all of them on the host.

    Args:
        group: the group.
        dropped: names of variables whose errors do not matter.
        mask_fill_value: whether elements equal to an array's fill value are missing; None: yes
            in v2, no in v3, as the engine "zarr" has it.

    Raises:
        MetadataError: an array does not name its dimensions.
        GpuzarrError: a member that cannot be opened.
    """

    __slots__ = ("_mask_fill_value", "_variables", "arrays", "group", "groups")

    def __init__(
        self, group: Group, dropped: Iterable[str] = (), *, mask_fill_value: bool | None = None
    ) -> None:
        self.group = group
        self.groups: dict[str, Group] = {}
        """The groups directly below."""
        self.arrays: dict[str, GpuzarrArray] = {}
        """What the variables read from."""
        self._variables: dict[str, Variable] = {}
        v2 = group.zarr_format == 2  # noqa: PLR2004
        self._mask_fill_value = v2 if mask_fill_value is None else mask_fill_value
        for name, node in group.tree(max_depth=0).members:
            if isinstance(node, Group):
                self.groups[name] = node
                continue
            try:
                self._add(name, node)
            except GpuzarrError:
                if name not in dropped:
                    raise

    def get_variables(self) -> Mapping[str, Variable]:
        """The arrays of the group."""
        return self._variables

    def get_attrs(self) -> dict[str, Any]:
        """The group's attributes, but those that netCDF-C keeps there for itself."""
        return _without_netcdf(self.group.attrs)

    def move_data(self, dataset: Dataset, device: str) -> None:
        """Read data variables to a device, so far as they are numbers once decoded."""
        data = dataset.data_vars
        for name, array in self.arrays.items():
            if name in data and data[name].dtype.kind in NUMBERS:
                array.move_to(device)

    def _add(self, name: str, node: Array | GpuzarrError) -> None:
        if isinstance(node, GpuzarrError):
            raise node
        dimensions, attributes = _dimensions_and_attributes(node)
        encoding = _encoding(node, dimensions)
        if self._mask_fill_value:
            if node.fill_value is not None:
                attributes["_FillValue"] = node.fill_value
        elif node.zarr_format == 3:  # noqa: PLR2004
            encoding["fill_value"] = node.fill_value
            if "_FillValue" in attributes:
                value = FillValueCoder.decode(attributes["_FillValue"], node.dtype)
                attributes["_FillValue"] = value
        self.arrays[name] = GpuzarrArray(node.with_options(device="cpu"))
        data = indexing.LazilyIndexedArray(self.arrays[name])
        self._variables[name] = Variable(dimensions, data, attributes, encoding)


class GpuzarrBackendEntrypoint(BackendEntrypoint):
    """xarray's engine "gpuzarr".

    Data variables of numbers are read to `device`. Coordinates, and variables that are times or
    text once decoded, are NumPy's: xarray and pandas work with them on the host.
    """

    description = "Open Zarr stores into NumPy's or GPU memory with gpuzarr"
    supports_groups = True
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        *("filename_or_obj", "drop_variables", "group", "use_zarr_fill_value_as_mask"),
        *DECODERS,
        *OPEN_ARGUMENTS,
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether this is a directory with a group that the engine "zarr" does not take."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        zarr = list_engines().get("zarr")
        if zarr is not None and zarr.guess_can_open(filename_or_obj):
            return False
        folder = Path(filename_or_obj).expanduser()
        return any((folder / name).is_file() for name in METADATA_NAMES)

    def open_dataset(self, filename_or_obj: Any, **arguments: Any) -> Dataset:
        """Open a group as a data set; `xarray.open_dataset` calls this.

        Args:
            filename_or_obj: as `store` in `gpuzarr.open`.
            **arguments: all optional: xarray's own choices how to decode, the arguments of
                `gpuzarr.open` (`device`, `memory_limit`, ...), where `consolidated=None` is "auto",
                and these.

                group: path of the group; default the root.
                drop_variables: a name or names of variables to leave out.
                use_zarr_fill_value_as_mask: whether elements equal to an array's fill value are
                    missing; by default they are in v2 and not in v3.

        Raises:
            NotFoundError: no such store, or no group there.
            MetadataError: documents that break their specification, or no names of dimensions.
            UnsupportedError: a data type or store that is not available.
        """
        _, dataset = next(_walk(filename_or_obj, **arguments))
        return dataset

    def open_groups_as_dict(self, filename_or_obj: Any, **arguments: Any) -> dict[str, Dataset]:
        """Open a group and all below it; the arguments are those of `open_dataset`.

        Returns:
            Data sets by path: "/", "/a", ...; with `group=` relative to that: ".", "a", ...
        """
        return dict(_walk(filename_or_obj, **arguments))

    def open_datatree(self, filename_or_obj: Any, **arguments: Any) -> DataTree:
        """As `open_groups_as_dict`, as a tree; `xarray.open_datatree` calls this."""
        return DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **arguments))


def _walk(
    filename_or_obj: Any,
    *,
    group: str | None = None,
    drop_variables: str | Iterable[str] | None = None,
    use_zarr_fill_value_as_mask: bool | None = None,
    **arguments: Any,
) -> Iterator[tuple[str, Dataset]]:
    """Paths and data sets of a group and of all below it, each opened when it is its turn."""
    decoders = {name: arguments.pop(name) for name in DECODERS if name in arguments}
    device = arguments.get("device", "auto")
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    waiting = [("." if group else "/", _open_group(filename_or_obj, group or "", arguments))]
    while waiting:  # a loop and not a recursion: hierarchies come from anyone
        path, here = waiting.pop()
        store = GpuzarrDataStore(here, dropped, mask_fill_value=use_zarr_fill_value_as_mask)
        dataset = StoreBackendEntrypoint().open_dataset(store, drop_variables=dropped, **decoders)
        store.move_data(dataset, device)
        yield path, dataset
        above = {"/": "/", ".": ""}.get(path, f"{path}/")
        waiting += [(above + name, below) for name, below in store.groups.items()][::-1]


def _open_group(store: Any, path: str, arguments: dict[str, Any]) -> Group:
    """The group at a path; from the root, whose metadata may be those of all nodes."""
    if isinstance(store, str | os.PathLike):
        store = os.path.expanduser(store)  # noqa: PTH111  it may be a URL
    if arguments.get("consolidated", "auto") is None:
        arguments["consolidated"] = "auto"
    if arguments.get("consolidated") is False:
        return open_group(store, path=path, **arguments)
    node = open_group(store, **arguments)[path]
    if not isinstance(node, Group):
        raise NotFoundError(
            "there is an array here, not a group; open the group that it is in",
            store=node.store.name,
            path=node.path,
        )
    return node


def _dimensions_and_attributes(array: Array) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Names of an array's dimensions, and its attributes without them.

    v3 names them in the metadata; in v2 xarray does in the attributes, and netCDF-C in a member of
    the metadata of its own, by paths.
    """
    attributes = dict(array.attrs)
    names: Sequence[Any] | None = array.dimension_names
    if array.zarr_format == 2:  # noqa: PLR2004
        names = attributes.pop(DIMENSION_KEY, None)
        if names is None:
            netcdf = array.metadata.document.get("_NCZARR_ARRAY")
            paths = netcdf.get("dimrefs", ()) if isinstance(netcdf, dict) else ()
            names = [str(path).rpartition("/")[2] for path in paths]
        elif not isinstance(names, list):
            names = None
        attributes = _without_netcdf(attributes)
    if len(names or ()) != array.ndim:
        raise MetadataError(
            f"xarray needs the names of all {array.ndim} dimensions, and the metadata give"
            f" {list(names or ())}; leave the array out by drop_variables=, or read it by"
            " gpuzarr.open_array",
            store=array.store.name,
            path=array.path,
        )
    return tuple(names or ()), attributes


def _without_netcdf(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not name.lower().startswith("_nc")}


def _encoding(array: Array, dimensions: Sequence[Any]) -> dict[str, Any]:
    """How an array is stored, in the words of xarray's engine "zarr"."""
    chunks = _compact(array.chunks, array.shape)
    encoding = {
        "chunks": chunks,
        "preferred_chunks": dict(zip(dimensions, chunks, strict=True)),
        "shards": None if array.shards is None else _compact(array.shards, array.shape),
        **(_v2_codecs if array.zarr_format == 2 else _v3_codecs)(array.metadata.document),  # noqa: PLR2004
    }
    if array.dtype.kind == "T":
        encoding["dtype"] = array.dtype
    return encoding


def _compact(
    sizes: Sequence[int | tuple[int, ...]], shape: Sequence[int]
) -> tuple[int | tuple[int, ...], ...]:
    """Chunk sizes as dask takes them: a number where all are equal, else each inside the array."""

    def along(listed: int | tuple[int, ...], length: int) -> int | tuple[int, ...]:
        if isinstance(listed, int):
            return listed
        ends = np.unique(np.minimum(np.cumsum(listed), length))
        first, *others = inside = tuple(np.diff(ends, prepend=0).tolist()) or (0,)
        equal = set(others[:-1]) <= {first} and inside[-1] <= first
        return first if equal and first else inside

    return tuple(map(along, sizes, shape))


def _v2_codecs(document: Mapping[str, Any]) -> dict[str, Any]:
    compressor = document.get("compressor")
    return {
        "compressors": tuple(_v2_codec(config) for config in [compressor] if config is not None),
        "filters": tuple(map(_v2_codec, document.get("filters") or ())),
    }


def _v2_codec(config: Mapping[str, Any]) -> Any:
    """numcodecs' object; of a codec that it does not know, the configuration itself."""
    try:
        return numcodecs.get_codec(dict(config))
    except ValueError:
        return config


def _v3_codecs(document: Mapping[str, Any]) -> dict[str, Any]:
    """The codecs of chunks, inside shards where there are some."""
    codecs = document["codecs"]
    if list(map(_codec_name, codecs)) == [SHARDING]:
        codecs = codecs[0]["configuration"]["codecs"]
    place = next((n for n, codec in enumerate(codecs) if _makes_bytes(codec)), None)
    if place is None:  # a codec of another package, which does not say that it does
        return {}
    return {
        "filters": tuple(codecs[:place]),
        "serializer": codecs[place],
        "compressors": tuple(codecs[place + 1 :]),
    }


def _makes_bytes(codec: Any) -> bool:
    name = _codec_name(codec)
    return name == SHARDING or (name in CODECS and CODECS[name].kind == "array -> bytes")


def _codec_name(codec: Any) -> str:
    return str(codec["name"] if isinstance(codec, dict) else codec)

"""The readers of `gpu.py`: each gives an array in device memory, and has waited for it.

Those that decode on the host read into pinned memory that is used again, and upload that in one
copy, which is the best that can be done with them; a result of another dtype than the stored one is
converted on the device. Peers are set as their documentation recommends, or better; how, stands in
their functions. A reader that is not here says why.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpuzarr
from gpuzarr.engines.pool import cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from gpu_bench import Bench
    from numpy.typing import NDArray

    Key = tuple[slice, ...]
    Run = Callable[[], Any]
    Open = Callable[[str], Any]
    ReadInto = Callable[[Any, Key, NDArray[Any]], object]

OWN = "gpuzarr"
"""What the others are compared with."""
SPOILT = 0xA5
CONCURRENCY = 64
"""zarr-python's requests at a time; its default of 10 is fewer than a GPU machine has cores."""


@dataclass(frozen=True)
class Task:
    """What is to be read."""

    paths: Sequence[Path]
    """Of the arrays."""
    requests: Sequence[tuple[int, Key]]
    """Which array, and what of it."""
    stacked: bool
    """Whether results are stacked along a first axis; else there is one request."""
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    """Of the result."""
    shape: tuple[int, ...]
    """Of the result."""

    def places(self, result: Any) -> list[Any]:
        """Where each request goes in an array of the result's shape."""
        return list(result) if self.stacked else [result]


@dataclass(frozen=True)
class Reader:
    """A way to read to the device."""

    name: str
    needs: tuple[str, ...]
    """Distributions."""
    prepare: Callable[[Bench, Task], Run]
    """Opens, and gives what is timed."""
    lacks: Callable[[], str | None] | None = None
    """What else speaks against it, where all that it needs is installed."""

    def missing(self) -> str | None:
        """Why it does not take part."""
        for name in self.needs:
            try:
                version(name)
            except PackageNotFoundError:
                return f"{name} is not installed"
        return None if self.lacks is None else self.lacks()


# ------------------------------------------------------------------------------------- gpuzarr


def on_device(**choices: Any) -> Callable[[Bench, Task], Run]:
    """gpuzarr with results on the GPU."""

    def prepare(bench: Bench, task: Task) -> Run:
        del bench
        arrays = [gpuzarr.open_array(path, device="cuda", **choices) for path in task.paths]
        wanted = [(arrays[number], key) for number, key in task.requests]
        dtype = None if task.dtype == task.stored else task.dtype
        if task.stacked:
            return lambda: gpuzarr.read_batch(wanted, dtype=dtype)
        array, key = wanted[0]
        return lambda: array.read(key, dtype=dtype)

    return prepare


def by_own_cpu(bench: Bench, task: Task) -> Run:
    """gpuzarr's CPU engine, whole batches in one call as well."""
    arrays = [gpuzarr.open_array(path, device="cpu") for path in task.paths]
    wanted = [(arrays[number], key) for number, key in task.requests]

    def fill(pinned: NDArray[Any]) -> None:
        if task.stacked:
            gpuzarr.read_batch(wanted, out=pinned)
        else:
            wanted[0][0].read(wanted[0][1], out=pinned)

    return through_pinned(bench, task, fill)


# -------------------------------------------------------------------------- decoded on the host


def through_pinned(bench: Bench, task: Task, fill: Callable[[NDArray[Any]], object]) -> Run:
    """Fill pinned memory, upload it, and convert it if need be."""
    flat = bench.pinned(prod(task.shape) * task.stored.itemsize)
    flat[:] = SPOILT  # what an earlier reader left must not pass for this one's result
    pinned = flat.view(task.stored).reshape(task.shape)

    def run() -> Any:
        fill(pinned)
        result = bench.upload(pinned)
        if task.dtype != task.stored:
            result = result.astype(task.dtype)
            bench.settle()
        return result

    return run


def on_host(open_one: Open, read_into: ReadInto) -> Callable[[Bench, Task], Run]:
    """A reader that fills the places of a NumPy array, several at a time where there are."""

    def prepare(bench: Bench, task: Task) -> Run:
        arrays = [open_one(str(path)) for path in task.paths]

        def fill(pinned: NDArray[Any]) -> None:
            wanted = zip(task.requests, task.places(pinned), strict=True)
            calls = [(arrays[number], key, place) for (number, key), place in wanted]
            if len(calls) == 1:
                read_into(*calls[0])
                return
            with ThreadPoolExecutor(min(len(calls), cpu_count())) as threads:
                for _ in threads.map(lambda call: read_into(*call), calls):
                    pass

        return through_pinned(bench, task, fill)

    return prepare


def with_zarr(**settings: Any) -> Open:
    """How zarr-python opens; an array keeps the pipeline that it was opened with."""

    def open_one(path: str) -> Any:
        import zarr  # noqa: PLC0415  a peer, which need not be here

        zarr.config.set({"async.concurrency": CONCURRENCY})
        with zarr.config.set(settings):
            return zarr.open_array(path, mode="r")

    return open_one


PIPELINE = "codec_pipeline.path"
zarr_as_it_comes = with_zarr()
zarr_fused = with_zarr(**{PIPELINE: "zarr.core.codec_pipeline.FusedCodecPipeline"})
zarr_with_zarrs = with_zarr(**{PIPELINE: "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True})


def no_fused_pipeline() -> str | None:
    """Why zarr-python cannot decode without its event loop."""
    import zarr.core.codec_pipeline as pipelines  # noqa: PLC0415

    if hasattr(pipelines, "FusedCodecPipeline"):
        return None
    return f"zarr {version('zarr')} has no FusedCodecPipeline"


def zarr_into(array: Any, key: Key, place: NDArray[Any]) -> None:
    """One selection of zarr-python's, without a copy."""
    from zarr.buffer.cpu import NDBuffer  # noqa: PLC0415

    array.get_basic_selection(key, out=NDBuffer.from_ndarray_like(place))


def open_tensorstore(path: str) -> Any:
    """Without a cache of chunks: rounds would find them decoded."""
    import tensorstore  # noqa: PLC0415

    driver = "zarr3" if (Path(path) / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": path}}
    return tensorstore.open(spec, read=True).result()


def tensorstore_into(array: Any, key: Key, place: NDArray[Any]) -> None:
    """One selection of tensorstore's, without a copy."""
    import tensorstore  # noqa: PLC0415

    target = tensorstore.array(place, copy=False)
    target.write(array[key].translate_to[(0,) * array.ndim]).result()


# ------------------------------------------------------------------------ zarr-python on the GPU


def gpu_buffers(bench: Bench) -> AbstractContextManager[Any]:
    """zarr-python's results are CuPy's in here; on the fake device they stay NumPy's."""
    import zarr  # noqa: PLC0415

    return zarr.config.enable_gpu() if bench.real else nullcontext()


def czarr_settings(bench: Bench) -> AbstractContextManager[Any]:
    """What czarr wants to be called before."""
    import czarr  # type: ignore[import-not-found]  # noqa: PLC0415  a peer that is rarely here

    del bench
    found: AbstractContextManager[Any] = czarr.configure_gpu()
    return found


def open_gds(path: str) -> Any:
    """zarr-python over kvikio's store, which reads straight to the device."""
    import kvikio.defaults  # noqa: PLC0415
    import zarr  # noqa: PLC0415
    from kvikio.zarr import GDSStore  # noqa: PLC0415

    kvikio.defaults.set({"num_threads": cpu_count()})  # its default is one
    return zarr.open_array(store=GDSStore(path, read_only=True), mode="r")


def open_czarr(path: str) -> Any:
    """czarr's own array, over its own store."""
    import czarr  # noqa: PLC0415

    return czarr.open_cuda_array(path)


def to_device(
    open_one: Open, settings: Callable[[Bench], AbstractContextManager[Any]]
) -> Callable[[Bench, Task], Run]:
    """A reader whose `array[key]` is on the device."""

    def prepare(bench: Bench, task: Task) -> Run:
        with settings(bench):
            arrays = [open_one(str(path)) for path in task.paths]

        def run() -> Any:
            with settings(bench):
                if not task.stacked:
                    number, key = task.requests[0]
                    result = arrays[number][key]
                else:
                    result = bench.xp.empty(task.shape, task.dtype)
                    for (number, key), place in zip(
                        task.requests, task.places(result), strict=True
                    ):
                        place[...] = arrays[number][key]
            bench.settle()
            return result

        return run

    return prepare


READERS = (
    Reader(OWN, (), on_device()),
    Reader("gpuzarr, decode on the device", (), on_device(decode="device")),
    Reader("gpuzarr, decode on the host", (), on_device(decode="host")),
    Reader("gpuzarr on the CPU + upload", (), by_own_cpu),
    Reader("zarr-python + upload", ("zarr",), on_host(zarr_as_it_comes, zarr_into)),
    Reader(
        "zarr-python fused + upload", ("zarr",), on_host(zarr_fused, zarr_into), no_fused_pipeline
    ),
    Reader("zarrs + upload", ("zarr", "zarrs"), on_host(zarr_with_zarrs, zarr_into)),
    Reader("tensorstore + upload", ("tensorstore",), on_host(open_tensorstore, tensorstore_into)),
    Reader("zarr-python, GPU buffers", ("zarr",), to_device(zarr_as_it_comes, gpu_buffers)),
    Reader("kvikio GDSStore", ("zarr", "kvikio-cu13"), to_device(open_gds, gpu_buffers)),
    Reader("czarr", ("czarr",), to_device(open_czarr, czarr_settings)),
)

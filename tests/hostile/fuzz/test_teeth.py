"""The short run has teeth: bugs that are put into gpuzarr are found, each by its target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr import array, locate
from gpuzarr.cli import selection as selection_text
from gpuzarr.engines.cpu import checksums, filters, zstd_frames
from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.frames import blosc, deflate, lz4, snappy, zstd
from gpuzarr.engines.cuda.pieces import element_strides
from gpuzarr.metadata import chunk_grids, fill_values
from gpuzarr.plan import selection
from gpuzarr.plan.selection import Selection, Span
from gpuzarr.stores import local
from gpuzarr.stores.zip import inflate as zip_inflate
from tests.hostile.fuzz.fuzzer import Fuzzer
from tests.hostile.fuzz.targets import TARGETS
from tests.hostile.fuzz.targets.decoders import Decoding

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hostile.fuzz.watch import Finding


def no_check(*arguments: Any, **named: Any) -> None:
    """In place of a check that raises."""


def nothing_is_broken(entries: Any, container_nbytes: Any) -> Any:
    """In place of `check_entries`: what points outside is missing."""
    del container_nbytes
    far = (entries > 2**63 - 1).any(axis=1)
    return far, np.zeros_like(far)


def keep_sign(indices: Any, dim: int, length: int) -> Any:
    """In place of `_wrap`: negative indices stay."""
    del dim, length
    return indices


def step_forgotten(key: Any, of: Any) -> Selection:
    """In place of `normalize_key`: slices lose their steps."""
    made = selection.normalize_selection(key, of.shape)
    axes = tuple(
        Span(axis.dim, axis.start, min(abs(axis.step), 1), axis.count)
        if isinstance(axis, Span)
        else axis
        for axis in made.axes
    )
    return Selection(axes, made.shape, made.field)


def always_in_order(shape: Any, axes: Any) -> Any:
    """In place of `element_strides`: transposed chunks are taken for plain ones, on the GPU."""
    return element_strides(shape, sorted(axes))


def no_checksum(step: Any) -> Any:
    """In place of `checksums.prepare`: checksums are cut off the end."""
    del step
    return lambda encoded, _: encoded[:-4]


def no_unshuffle(source: Any, out: Any, itemsize: int) -> None:
    """In place of `unshuffle_bytes`."""
    del itemsize
    out[:] = source


BUGS: list[tuple[str, Any, str, Any]] = [
    ("arrays", array, "normalize_key", step_forgotten),
    ("arrays", transfer, "element_strides", always_in_order),
    ("decode-checksums", checksums, "prepare", no_checksum),
    ("decode-filters", filters, "unshuffle_bytes", no_unshuffle),
    ("decode-zstd", zstd_frames, "is_one_frame", lambda *_: True),
    ("frames-blosc", blosc, "BYTE_SHUFFLED", 0),
    ("frames-gzip", deflate, "RESERVED_FLAGS", 0xFE),
    ("frames-lz4", lz4, "SIZE_PREFIX", 3),
    ("frames-snappy", snappy, "MOST_PREFIX", 4),
    ("frames-zlib", deflate, "MOST_WINDOW", 6),
    ("frames-zstd", zstd, "CHECKSUM", 0),
    ("grids", chunk_grids, "as_int", lambda value, *_, **__: value),
    ("keys", selection, "_wrap", keep_sign),
    ("metadata-v3", chunk_grids, "as_int", lambda value, *_, **__: value),
    ("paths", local, "check_key", lambda key: key),
    ("selection-text", selection_text, "_end", no_check),
    ("shards", locate, "check_entries", nothing_is_broken),
    ("types", fill_values, "_round_float", lambda context, _: np.zeros((), context.dtype)),
    ("zip", zip_inflate, "check_crc", no_check),
]
"""A target, and what is replaced by something wrong."""


def forget(name: str) -> None:
    """Let a target make its decoders anew."""
    decoding = getattr(TARGETS[name].check, "__self__", None)
    if isinstance(decoding, Decoding):
        decoding.forget()


def first_finding(name: str) -> Finding | None:
    """What the short run of a target finds."""
    target = TARGETS[name]
    forget(name)
    fuzzer = Fuzzer(target, 0)
    with target.around():
        for _ in range(len(target.seeds()) + target.inputs):
            finding = fuzzer.step()
            if finding is not None:
                return finding
    return None


@pytest.mark.parametrize(
    ("name", "module", "attribute", "bug"), BUGS, ids=[f"{bug[0]} {bug[2]}" for bug in BUGS]
)
def test_bugs_are_found(
    name: str,
    module: Any,
    attribute: str,
    bug: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setattr(module, attribute, bug)
            assert first_finding(name) is not None
    finally:
        forget(name)

"""What reading an input gave, held against what is promised of it."""

from __future__ import annotations

import contextlib
import io
import traceback
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numcodecs
import numpy as np

import gpuzarr
from gpuzarr import few
from gpuzarr.cli import main
from tests.hostile.inputs import Later, changed
from tests.hostile.objects import TRIPPED
from tests.hostile.places import SECRET, Unruly

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hostile.bases import Base
    from tests.hostile.inputs import Hostile

Outcome = Literal["refused", "right", "untold"]
"""An error; right values; values of the right shape and type, of which the format cannot tell."""

MOST_NBYTES = 1 << 22
"""Of results that are read as a whole, where metadata may say any shape."""
MOST_CHUNKS = 2000
CORNER_AXES = 6
"""Axes of which two elements are read of a large array; of others one."""
LONGEST_MESSAGE = 6000
FEW_CHUNKS = few.MOST_CHUNKS
CUDA_EVERY = 8
"""Each so many-th input of a kind is also read by the CUDA engine, on the fake device."""


@dataclass
class Verdict:
    """What is to be said of an input."""

    outcome: Outcome = "refused"
    findings: list[str] = field(default_factory=list)
    error: gpuzarr.GpuzarrError | None = None
    values: Any = None

    def find(self, what: str) -> None:
        """Note what must not be."""
        if what not in self.findings:
            self.findings.append(what)

    def attempt(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call gives; None, with `error` set, where it refuses as it should."""
        self.error = None
        try:
            return call()
        except gpuzarr.GpuzarrError as error:
            self.error = error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  the very thing that is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            self.find(f"{name}: {type(error).__name__} at {where}: {error}"[:400])
            self.error = gpuzarr.GpuzarrError("not ours")
        return None


def judge(hostile: Hostile, number: int, *, device: str = "cpu") -> Verdict:
    """Open and read an input, and see whether all is as promised.

    Args:
        hostile: the input.
        number: its number, which decides about the ways it is read in.
        device: "cpu" or "cuda".
    """
    verdict = Verdict()
    few.MOST_CHUNKS = FEW_CHUNKS if number % 2 else 0
    TRIPPED.clear()
    if hostile.look == "node":
        _judge_node(hostile, verdict, device)
    else:
        _judge_array(hostile, verdict, number, device)
    if isinstance(hostile.store, Path) and number % 12 == 0 and device == "cpu":
        verdict.findings += _verify(hostile)
    if TRIPPED:
        verdict.find("code ran that came with data")
    return verdict


def compare(hostile: Hostile, cpu: Verdict, cuda: Verdict) -> None:
    """Note where the engines do not say the same of an input."""
    store = hostile.store  # some may say something else to the second
    fickle = isinstance(store, Unruly) or (isinstance(store, Later) and store.fickle)
    if isinstance(cuda.error, gpuzarr.UnsupportedError) or hostile.look == "node" or fickle:
        return
    if cpu.error is not None and cuda.error is None and cuda.outcome == "right":
        return  # bytes between a zlib stream and its checksum are seen by who finds its end alone
    if (cpu.error is None) != (cuda.error is None):
        one, other = (_short(each.error) for each in (cpu, cuda))
        cuda.find(f"engines disagree: cpu {one}, cuda {other}")
    elif cpu.error is None and not same(np.asarray(cuda.values), cpu.values):
        cuda.find("engines disagree: other values on cuda")


# ------------------------------------------------------------------------------------- arrays


def _judge_array(hostile: Hostile, verdict: Verdict, number: int, device: str) -> None:
    base = hostile.base
    path = hostile.path if hostile.path is not None else (base.path if base else "")
    options: dict[str, Any] = {"device": device, "threads": None if number % 4 == 0 else 1}
    if device == "cuda" and number // CUDA_EVERY % 2:  # the host's own way for few chunks
        options["decode"] = "host"
    array = verdict.attempt(
        "open", lambda: gpuzarr.open_array(hostile.to_open(), path=path, **options)
    )
    if array is None:
        if hostile.damaged is not None:
            verdict.find(f"open: whole metadata were refused: {_short(verdict.error)}")
        _check_message(hostile, verdict)
        return
    key = verdict.attempt("nchunks", lambda: _small_key(array))
    if key is None:
        return
    values = verdict.attempt("read", lambda: array[key])
    error = verdict.error
    if values is None:
        _check_message(hostile, verdict)
        _check_failures(hostile, verdict)
    else:
        _check_values(hostile, verdict, array, key, np.asarray(values))
    look_at_others = number % 4 in (1, 2)  # half of the time, by either way of reading
    if hostile.damaged is not None and base is not None and look_at_others and not _not_held(error):
        _check_others(hostile, verdict, array, number)
    _other_ways(hostile, verdict, array, key, number)
    verdict.error, verdict.values = error, values


def _small_key(array: gpuzarr.Array) -> Any:
    """All of an array, or a corner of a large one."""
    if array.nbytes <= MOST_NBYTES and array.nchunks <= MOST_CHUNKS:
        return ...
    return tuple(slice(0, 2 if axis < CORNER_AXES else 1) for axis in range(array.ndim))


def _check_values(
    hostile: Hostile, verdict: Verdict, array: gpuzarr.Array, key: Any, values: Any
) -> None:
    """A result: its shape and type always, its values as far as promised."""
    shape = array.shape
    if key is not ...:
        shape = tuple(len(range(n)[part]) for n, part in zip(shape, key, strict=True))
    if values.shape != shape or values.dtype != array.dtype or not values.dtype.isnative:
        verdict.find(f"read: {values.dtype} {values.shape} instead of {array.dtype} {shape}")
    verdict.outcome = "untold"
    if hostile.promise == "refuse":
        verdict.find("read: data, where an error is due")
    if hostile.base is None or (hostile.damaged is None and hostile.look != "archive"):
        return
    plain = hostile.base.plain
    if key is not ... or values.shape != plain.shape or values.dtype != plain.dtype:
        verdict.find(f"read: {values.dtype} {values.shape}, though the metadata are whole")
    elif same(values, plain):
        verdict.outcome = "right"
    else:
        _check_other_values(hostile, verdict, hostile.base, values)


def _check_other_values(hostile: Hostile, verdict: Verdict, base: Base, values: Any) -> None:
    """Values that are not right: only where the format cannot tell, and only of damaged chunks."""
    if hostile.look == "archive":
        if hostile.promise == "told" and not _is_missing_some(base, values):
            verdict.find("read: other values, though each entry has a checksum")
        return
    healed = _with_damaged_parts(hostile, base, values)
    if healed is not None and not same(healed, base.plain):
        verdict.find("read: chunks have other values that are not damaged")
    if hostile.promise == "told" and not _is_collision(hostile, base):
        verdict.find("read: other values, where the format tells")


def _with_damaged_parts(hostile: Hostile, base: Base, values: Any) -> Any:
    """A result in which the damaged parts are right; None where it is not known what they are."""
    healed = values.copy()
    assert hostile.damaged is not None
    for region in _regions(hostile, base):
        if region is None:
            return None
        healed[region] = base.plain[region]
    return healed


def _regions(hostile: Hostile, base: Base) -> list[tuple[slice, ...] | None]:
    """The parts of the array that are damaged."""
    assert hostile.damaged is not None
    if hostile.chunks is None or base.index is None or base.object_shape is None:
        return [base.region(key) for key in hostile.damaged]
    sizes = [n // c for n, c in zip(base.object_shape, base.index.counts, strict=True)]
    return [
        tuple(slice(i * size, (i + 1) * size) for i, size in zip(chunk, sizes, strict=True))
        for chunk in hostile.chunks
    ]


def _is_missing_some(base: Base, values: Any) -> bool:
    """Whether a result is that of the array without the objects that are not right in it."""
    gone: dict[str, bytes | None] = {}
    for key in base.objects:
        region = base.region(key)
        if region is None:
            return True
        if not same(values[region], base.plain[region]):
            gone[key] = None
    rest = gpuzarr.open_array(changed(base, gone), path=base.path, device="cpu")
    return same(values, rest[...])


def _is_collision(hostile: Hostile, base: Base) -> bool:
    """Whether the altered bytes match their checksums by chance: numcodecs takes them, too."""
    assert hostile.damaged is not None
    if "sharding_indexed" in base.names or not base.checked:
        return False
    names = [each["name"] for each in base.codecs]
    first = names.index("bytes") if "bytes" in names else 0
    with contextlib.suppress(Exception):
        for key in hostile.damaged:
            on_disk = isinstance(hostile.store, Path)
            data = (hostile.store / key).read_bytes() if on_disk else hostile.store[key]
            for each in base.codecs[:first:-1]:
                name = each["name"].removeprefix("numcodecs.")
                data = bytes(
                    numcodecs.get_codec({**each["configuration"], "id": name}).decode(data)
                )
        return True
    return False


def _check_message(hostile: Hostile, verdict: Verdict) -> None:
    """An error says where it happened."""
    error = verdict.error
    assert error is not None
    if error.message == "not ours":
        return
    text = str(error)
    if len(text) > LONGEST_MESSAGE + 10 * len(hostile.path or ""):
        verdict.find(f"a message of {len(text)} characters: {text[:80]}")
    if error.store is None and hostile.look != "node":
        verdict.find(f"no store in the message: {_short(error)}")
    if hostile.damaged is None or isinstance(
        error, (gpuzarr.UnsupportedError, gpuzarr.MemoryLimitError)
    ):
        return
    if not any(repr(key) in text for key in hostile.damaged):
        verdict.find(f"no damaged key in the message: {_short(error)}")


def _check_failures(hostile: Hostile, verdict: Verdict) -> None:
    """Failures name damaged chunks, and no others."""
    error, base = verdict.error, hostile.base
    if hostile.damaged is None or base is None or not isinstance(error, gpuzarr.ChunkError):
        return
    for failure in error.failures:
        whole = "sharding_indexed" not in base.names and base.object_shape is not None
        if failure.key not in hostile.damaged:
            verdict.find(f"failures name {failure.key}, which is not damaged")
        elif whole and failure.coords != base.objects[failure.key]:
            verdict.find(f"failures name {failure.coords} of {failure.key}")
        elif hostile.chunks is not None and failure.coords not in hostile.chunks:
            verdict.find(f"failures name {failure.coords}, whose entry is whole")


def _check_others(hostile: Hostile, verdict: Verdict, array: gpuzarr.Array, number: int) -> None:
    """What is not damaged is read as before; and of many damaged chunks each as the whole said."""
    base, damaged = hostile.base, hostile.damaged
    assert base is not None
    assert damaged is not None
    others = [key for key in base.objects if key not in damaged]
    if others:
        region = base.region(others[number % len(others)])
        if region is not None:
            whole: Any = (*region, ...)  # without dimensions, too, an array
            values = verdict.attempt("read others", lambda: array[region])
            if values is None:
                verdict.find(f"chunks that are whole were refused: {_short(verdict.error)}")
            elif not same(np.asarray(values), base.plain[whole]):
                verdict.find("chunks that are whole have other values")


def _other_ways(
    hostile: Hostile, verdict: Verdict, array: gpuzarr.Array, key: Any, number: int
) -> None:
    """The other public ways to look at an array, each now and then."""
    way = number % 24
    if way == 3:
        verdict.attempt("explain", lambda: str(array.explain(key)))
    elif way == 7:
        verdict.attempt("repr", lambda: (repr(array), array.info, dict(array.attrs), array.chunks))
    elif way == 11:
        corner = key if key is not ... else tuple(slice(0, 3) for _ in array.shape)
        found = verdict.attempt(
            "read_batch", lambda: gpuzarr.read_batch([(array, corner), (array, corner)])
        )
        if found is not None and not same(np.asarray(found[0]), np.asarray(found[1])):
            verdict.find("read_batch: two selections of one key differ")
    elif way == 15 and key is ...:
        backwards = tuple(slice(None, None, -2) for _ in array.shape)
        verdict.attempt("step", lambda: array[backwards])
    elif way == 19 and hostile.path is None:
        node = verdict.attempt("open node", lambda: gpuzarr.open(hostile.to_open(), device="cpu"))
        if isinstance(node, gpuzarr.Group):
            verdict.attempt("tree", lambda: str(node.tree()))


# -------------------------------------------------------------------------------------- nodes


def _judge_node(hostile: Hostile, verdict: Verdict, device: str) -> None:
    """Open whatever is there, and look at all below."""
    path = hostile.path or ""
    node = verdict.attempt(
        "open", lambda: gpuzarr.open(hostile.to_open(), path=path, device=device)
    )
    if node is None:
        _check_message(hostile, verdict)
        return
    verdict.outcome = "untold"
    arrays: list[Any] = [node]
    if isinstance(node, gpuzarr.Group):
        verdict.attempt("tree", lambda: str(node.tree()))
        verdict.attempt("attrs", lambda: dict(node.attrs))
        arrays = []

        def walk() -> None:
            for name, member in islice(node.members(None), 200):
                if ".." in name.split("/"):
                    verdict.find(f"a member has the name {name!r}")
                arrays.append(member)

        verdict.attempt("members", walk)
    for array in arrays:
        if not isinstance(array, gpuzarr.Array):
            continue
        key = verdict.attempt("nchunks", partial(_small_key, array))
        if key is None:
            continue
        values = verdict.attempt("read", partial(array.read, key))
        if values is not None and _shows_secret(np.asarray(values)):
            verdict.find(f"/{array.path} shows what lies outside the root")
    verdict.error = None


def _shows_secret(values: Any) -> bool:
    return bool(values.dtype.kind in "iu" and values.size and (values == SECRET).any())


def _verify(hostile: Hostile) -> list[str]:
    """`gpuzarr verify`, which must end with a status and print no traceback; what is wrong."""
    verdict = Verdict()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = verdict.attempt("verify", lambda: main(["verify", str(hostile.store), "--json"]))
    if status not in (0, 1, 2):
        verdict.find(f"verify: exit status {status}")
    return verdict.findings


# -------------------------------------------------------------------------------------- values


def same(found: Any, expected: Any) -> bool:
    """Whether all values are the same, bit for bit but for those of not-a-number."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if found.dtype.hasobject or found.dtype.kind == "T":
        return repr(found.tolist()) == repr(expected.tolist())
    if found.tobytes() == expected.tobytes():
        return True
    if found.dtype.kind not in "fc":
        return False
    parts = (found.real, found.imag), (expected.real, expected.imag)
    with np.errstate(all="ignore"):  # some of them signal
        return bool(
            np.array_equal(found, expected, equal_nan=True)
            and all((np.signbit(a) == np.signbit(b)).all() for a, b in zip(*parts, strict=True))
        )


def _not_held(error: gpuzarr.GpuzarrError | None) -> bool:
    """Whether a device cannot hold arrays of such a type, damaged or not."""
    return isinstance(error, gpuzarr.UnsupportedError)


def _short(error: gpuzarr.GpuzarrError | None) -> str:
    return "data" if error is None else f"{type(error).__name__}: {error}"[:200]

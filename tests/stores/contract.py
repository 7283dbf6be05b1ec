"""What every store must do: inherit from `StoreContract` and say how to make one.

class TestMyStore(StoreContract):
    @pytest.fixture
    def make(self):
        return lambda objects: MyStore(objects)
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from gpuzarr.errors import GpuzarrError, StoreError, UnsupportedError
from gpuzarr.stores.store import WHOLE, Store

if TYPE_CHECKING:
    from collections.abc import Callable

OBJECTS = {
    "zarr.json": b'{"zarr_format": 3}',
    "empty": b"",
    "group/zarr.json": b"{}",
    "group/array/c/0/0": bytes(range(256)) * 40,
    "group/array/c/0/1": b"\x00" * 70_000,
    "group/array/c/10/0": random.Random(0).randbytes(300_000),  # noqa: S311
    "group.other/.zarray": b"[]",
    "a name with spaces/\u00e4\u03b2\u6f22": b"unicode",
}
LARGE = "group/array/c/10/0"
BAD_KEYS = (
    "",
    "/",
    "/zarr.json",
    "zarr.json/",
    "group//zarr.json",
    ".",
    "..",
    "./zarr.json",
    "../zarr.json",
    "group/../zarr.json",
    "group/.",
    "group/..",
    "group\\zarr.json",
    "zarr.json\0",
    "gr\0up/zarr.json",
)
RANGES = [
    (0, WHOLE),
    (0, 0),
    (0, 1),
    (1, WHOLE),
    (100, 1000),
    (-1, WHOLE),
    (-16, 4),
    (-16, WHOLE),
    (-(10**12), 10),
]


class StoreContract:
    """Tests of the `Store` protocol; subclasses give the fixture `make`."""

    pickles = True
    lists = True
    forks = hasattr(os, "fork")

    @pytest.fixture
    def make(self) -> Callable[[dict[str, bytes]], Store]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, make: Callable[[dict[str, bytes]], Store]) -> Store:
        return make(OBJECTS)

    def test_has_a_name_and_a_repr(self, store: Store) -> None:
        assert isinstance(store.name, str)
        assert store.name
        assert "object at 0x" not in repr(store)

    def test_reads_whole_objects(self, store: Store) -> None:
        for key, value in OBJECTS.items():
            blob = store.read(key)
            assert blob is not None
            assert bytes(blob.data) == value
            assert (blob.data.format, blob.data.ndim) == ("B", 1)

    @pytest.mark.parametrize(("offset", "nbytes"), RANGES)
    def test_reads_ranges(self, store: Store, offset: int, nbytes: int) -> None:
        value = OBJECTS[LARGE]
        start = offset if offset >= 0 else max(0, len(value) + offset)
        stop = len(value) if nbytes == WHOLE else start + nbytes
        for _ in range(2):  # the second time out of a cache, where there is one
            blob = store.read(LARGE, offset, nbytes)
            assert blob is not None
            assert bytes(blob.data) == value[start:stop]

    def test_an_empty_object_has_an_empty_range(self, store: Store) -> None:
        for offset, nbytes in [(0, WHOLE), (0, 0), (-5, WHOLE), (-5, 0)]:
            blob = store.read("empty", offset, nbytes)
            assert blob is not None
            assert bytes(blob.data) == b""

    def test_refuses_ranges_outside_the_object(self, store: Store) -> None:
        size = len(OBJECTS[LARGE])
        for offset, nbytes in [
            (0, size + 1),
            (size + 1, WHOLE),
            (size + 1, 0),
            (size, 1),
            (-4, 5),
            (5, -2),
            (2**70, 1),
        ]:
            with pytest.raises(StoreError) as caught:
                store.read(LARGE, offset, nbytes)
            assert caught.value.key == LARGE

    def test_a_missing_object_is_none(self, store: Store) -> None:
        for key in ["zarr.jso", "missing/deep/key", "group", "group/array", "zarr.json/x", "ZARR"]:
            assert store.read(key) is None
            assert store.read(key, -4, 4) is None

    def test_refuses_keys_that_could_leave_the_root(self, store: Store) -> None:
        for _ in range(2):  # the second time with the folders of other keys known
            for key in BAD_KEYS:
                with pytest.raises(StoreError):
                    store.read(key)
            assert store.read("group/zarr.json") is not None

    def test_odd_names_never_raise_a_strange_error(self, store: Store) -> None:
        for key in ["x" * 300, "/".join(["y" * 200] * 40), "\udcff", "\ud800", "con", "a:b"]:
            try:
                assert store.read(key) is None
            except GpuzarrError as error:
                assert isinstance(error, StoreError)  # noqa: PT017 -- both answers are right

    def test_reads_into_the_callers_memory(self, store: Store) -> None:
        asked: list[int] = []
        memory = bytearray(1 << 20)

        def allocate(nbytes: int) -> memoryview:
            asked.append(nbytes)
            return memoryview(memory)[:nbytes]

        blob = store.read("group/array/c/0/0", 256, 512, allocate)
        assert blob is not None
        assert bytes(blob.data) == OBJECTS["group/array/c/0/0"][256:768]
        assert asked in ([], [512])
        if asked:
            assert blob.data.obj is memory
            assert bytes(memory[:512]) == bytes(blob.data)

    def test_validators_stay_while_the_object_does(self, store: Store) -> None:
        whole, part, again = store.read(LARGE), store.read(LARGE, 5, 5), store.read(LARGE)
        assert whole is not None
        assert part is not None
        assert again is not None
        assert whole.validator == part.validator == again.validator
        hash(whole.validator)

    def test_lists_direct_children(self, store: Store) -> None:
        if not self.lists:
            with pytest.raises(UnsupportedError):
                list(store.list())
            return
        children = {
            "": {
                ("zarr.json", False),
                ("empty", False),
                ("group", True),
                ("group.other", True),
                ("a name with spaces", True),
            },
            "group": {("zarr.json", False), ("array", True)},
            "group/array": {("c", True)},
            "group/array/c": {("0", True), ("10", True)},
            "group/array/c/0": {("0", False), ("1", False)},
            "a name with spaces": {("\u00e4\u03b2\u6f22", False)},
            "gro": set(),
            "missing/deep": set(),
            "zarr.json": set(),
        }
        for prefix, expected in children.items():
            found = list(store.list(prefix))
            assert len(found) == len(expected)
            assert set(found) == expected

    def test_refuses_to_list_outside_of_the_root(self, store: Store) -> None:
        for prefix in ["/", "..", "group/", "group/../..", "a\\b"]:
            with pytest.raises((StoreError, UnsupportedError)):
                list(store.list(prefix))

    def test_starts_many_reads(self, store: Store) -> None:
        keys = [*OBJECTS, "missing", LARGE, LARGE]
        offsets = [0] * (len(keys) - 1) + [-10]
        sizes = [WHOLE] * (len(keys) - 2) + [10, 10]
        pending = store.start_reads(keys, offsets, sizes)
        for row in reversed(range(len(keys))):
            blob = pending.result(row)
            value = OBJECTS.get(keys[row])
            if value is None:
                assert blob is None
                continue
            start = len(value) - 10 if offsets[row] else 0
            stop = len(value) if sizes[row] == WHOLE else start + 10
            assert blob is not None
            assert bytes(blob.data) == value[start:stop]

    def test_knows_sizes(self, store: Store) -> None:
        for key, value in OBJECTS.items():
            assert store.size(key) == len(value)
        for key in ["missing/key", "group", "zarr.json/x"]:
            assert store.size(key) is None
        with pytest.raises(StoreError):
            store.size("../zarr.json")

    def test_a_path_is_that_of_exactly_these_bytes(self, store: Store) -> None:
        path = store.path_of(LARGE)
        assert path is None or path.read_bytes() == OBJECTS[LARGE]
        assert store.path_of("missing/key") is None
        assert store.path_of("group") is None

    def test_many_threads_read_at_once(self, store: Store) -> None:
        keys = list(OBJECTS)

        def read(seed: int) -> bool:
            draw = random.Random(seed)  # noqa: S311
            for _ in range(30):
                key = draw.choice(keys)
                start = draw.randrange(len(OBJECTS[key]) + 1)
                nbytes = draw.randrange(len(OBJECTS[key]) - start + 1)
                blob = store.read(key, start, nbytes)
                if blob is None or bytes(blob.data) != OBJECTS[key][start : start + nbytes]:
                    return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(32)))

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_reads_while_the_parents_threads_do(self, store: Store) -> None:
        if not self.forks:
            return
        stop = threading.Event()

        def read_on() -> None:
            while not stop.is_set():
                for key in OBJECTS:
                    store.read(key, -1)

        threads = [threading.Thread(target=read_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                child = os.fork()
                if child == 0:  # never back into pytest from here
                    status = 1
                    try:
                        signal.alarm(60)
                        blobs = {key: store.read(key, 0) for key in OBJECTS}
                        parts = {key: store.read(key, 1, 5) for key in (LARGE, "zarr.json")}
                        if all(b and bytes(b.data) == OBJECTS[k] for k, b in blobs.items()) and all(
                            b and bytes(b.data) == OBJECTS[k][1:6] for k, b in parts.items()
                        ):
                            status = 0
                    finally:
                        os._exit(status)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_pickles(self, store: Store) -> None:
        if not self.pickles:
            return
        assert store.read(LARGE) is not None
        again = pickle.loads(pickle.dumps(store))  # noqa: S301 -- our own
        blob = again.read(LARGE, -5)
        assert blob is not None
        assert bytes(blob.data) == OBJECTS[LARGE][-5:]
        assert again.name == store.name

"""An archive that is an object of another store, which counts what it is asked."""

from __future__ import annotations

import io
import zipfile

from gpuzarr.stores.store import WHOLE, Store
from gpuzarr.stores.zip.store import ZipStore
from tests.stores.counting import CountingStore

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
KEY = "folder/archive.zip"


def pack(objects: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for key, value in objects.items():
            archive.writestr(key, value)
    return packed.getvalue()


def open_far(packed: bytes, **options: bool) -> tuple[ZipStore, CountingStore]:
    far = CountingStore({KEY: packed}, **options)
    return ZipStore.of_object(far, KEY), far


def read(store: Store, key: str, offset: int = 0, nbytes: int = WHOLE) -> bytes | None:
    blob = store.read(key, offset, nbytes)
    return None if blob is None else bytes(blob.data)

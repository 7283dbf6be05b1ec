"""An S3 server of SeaweedFS, started for the tests: it lists, keeps etags and checks signatures.

One user may do everything, one may only read and not list, and anonymous requests may read and list
the buckets whose names begin with "public".
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuzarr.stores.remote.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEYS = {"access_key_id": "writer", "secret_access_key": "writers-secret"}
NO_LISTING = {"access_key_id": "reader", "secret_access_key": "readers-secret"}
PATIENCE_S = 60.0
ATTEMPTS = 3

_USERS = {
    "identities": [
        {
            "name": "writer",
            "credentials": [{"accessKey": "writer", "secretKey": "writers-secret"}],
            "actions": ["Admin", "Read", "Write", "List"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": "reader", "secretKey": "readers-secret"}],
            "actions": ["Read"],
        },
        {"name": "anonymous", "actions": ["Read:public", "List:public"]},
    ]
}


class S3Server:
    """See the module's text."""

    def __init__(self, folder: Path) -> None:
        """Start it; its data lie in `folder`."""
        (folder / "data").mkdir()
        config = folder / "users.json"
        config.write_text(json.dumps(_USERS))
        self._numbers = itertools.count()
        self._ports = find_ports(8)
        self.port = self._ports[-1]
        program = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
        ports = [f"={port}" for port in self._ports]
        names = [
            f"-{part}.port{which}"
            for part in ("master", "volume", "filer", "s3")
            for which in (".grpc", "")
        ]
        command = [
            program, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}",
            "-master.volumeSizeLimitMB=64", "-volume.max=20", "-filer", "-s3", "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={config}", *map("".join, zip(names, ports, strict=True)),
        ]  # fmt: skip
        self._log = (folder / "log").open("w+b")
        environment = {**os.environ, "HOME": str(folder)}
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, env=environment
        )

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """`storage_options` with which everything may be done."""
        return {**KEYS, "endpoint": self.url, "region": "us-east-1"}

    def close(self) -> None:
        """End it."""
        self._process.kill()  # it takes its time to end, and nothing is lost
        self._process.wait(30)
        self._log.close()
        for port in self._ports:  # it makes them there, wherever it is
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                left.unlink(missing_ok=True)

    def store(
        self, objects: Mapping[str, bytes], bucket: str = "tests", **more: Any
    ) -> ObjectStore:
        """Put some objects into a folder of their own, and open that."""
        url = self.put(objects, bucket)
        return ObjectStore.from_url(url, {**self.options, **more})

    def put(self, objects: Mapping[str, bytes], bucket: str = "tests") -> str:
        """Put some objects into a folder of their own; gives its URL."""
        url = f"s3://{bucket}/folder of {os.getpid()}/{next(self._numbers)}.zarr"
        store = self.obstore(url)
        for key, value in objects.items():
            store.put(key, value)
        return url

    def obstore(self, url: str) -> Any:
        """obstore's own store for a URL."""
        import obstore.store  # noqa: PLC0415  not everybody has it

        open_url: Any = obstore.store.from_url
        return open_url(url, config=self.options, client_options={"allow_http": True})

    def wait(self) -> bool:
        """Until it stores something, which takes a few seconds; says whether it does."""
        end = time.monotonic() + PATIENCE_S
        while self._process.poll() is None and time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                self.put({"first": b""})
                return True
            time.sleep(0.1)
        return False


def find_ports(count: int) -> list[int]:
    """Free ports of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def start_server(folder: Path) -> Iterator[S3Server]:
    """A server that is ready; another one where somebody has taken one of its ports meanwhile."""
    for number in range(ATTEMPTS):
        place = folder / str(number)
        place.mkdir()
        server = S3Server(place)
        try:
            if server.wait():
                yield server
                return
        finally:
            server.close()
    raise RuntimeError((place / "log").read_text()[-2000:])

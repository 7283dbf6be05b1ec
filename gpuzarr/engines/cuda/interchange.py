"""What libraries of CUDA hand each other: streams and memory, by protocols and by addresses."""

from __future__ import annotations

import operator
from typing import Any

PROTOCOL_VERSION = 0
"""The version of the CUDA stream protocol that there is."""


class LentStream:
    """A stream of another library, by the CUDA stream protocol."""

    __slots__ = ("_address", "_owner")

    def __init__(self, address: int, owner: object) -> None:
        """Describe the stream at an address; its owner lives as long as this."""
        self._address = address
        self._owner = owner

    def __cuda_stream__(self) -> tuple[int, int]:
        """The protocol's version, and the address."""
        return PROTOCOL_VERSION, self._address


class CudaBuffer:
    """Bytes in device memory, as numba's CUDA array interface (version 3) describes them."""

    __slots__ = ("__cuda_array_interface__",)

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


def stream_address(stream: Any) -> int:
    """The address of a stream, whoever made it.

    >>> stream_address(77), stream_address(LentStream(78, None))
    (77, 78)

    Args:
        stream: an object with `__cuda_stream__`, one of PyTorch's, Numba's or CuPy's, or an
            address.

    Raises:
        TypeError: it is none of these.
        ValueError: its protocol is of another version.
    """
    if hasattr(stream, "__cuda_stream__"):
        pair = stream.__cuda_stream__  # a property in the protocol's first days
        version, address = pair() if callable(pair) else pair
        if version != PROTOCOL_VERSION:
            raise ValueError(f"the CUDA stream protocol's version {version} is not known")
        return operator.index(address)
    for name in ("cuda_stream", "ptr", "handle"):
        if hasattr(stream, name):
            address = getattr(stream, name)
            address = getattr(address, "value", address)  # Numba's is a `ctypes.c_void_p`
            return 0 if address is None else int(address)
    return operator.index(stream)

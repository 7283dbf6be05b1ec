"""System calls and memory that Python has no functions for, by ctypes."""

from __future__ import annotations

import errno
import mmap
import os
from functools import lru_cache
from typing import Any

import numpy as np


class LibC:
    """The C library, and Python's own."""

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415  some Pythons have none

        library = ctypes.CDLL(None, use_errno=True)
        self._syscall: Any = library.syscall
        self._syscall.restype, self._syscall.argtypes = ctypes.c_long, (ctypes.c_long,) * 7
        self._mmap: Any = library.mmap
        self._mmap.restype = ctypes.c_void_p
        numbers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
        self._mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *numbers)
        self.unmap: Any = library.munmap
        self.unmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self.close = os.close  # which a module's globals are no more, when Python ends
        self._ctypes: Any = ctypes

    def call(self, number: int, *arguments: int) -> int:
        """A system call, which raises OSError where it fails."""
        result: int = self._syscall(number, *arguments, *(0,) * (6 - len(arguments)))
        if result < 0:
            code = self._ctypes.get_errno()
            raise OSError(code or errno.EINVAL, os.strerror(code))
        return result

    def map(self, descriptor: int, nbytes: int, offset: int) -> np.ndarray:
        """Memory that is shared with whoever has the same file; raises OSError."""
        how = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = self._mmap(None, nbytes, access, how, descriptor, offset)
        if address in (None, self._ctypes.c_void_p(-1).value):
            raise OSError(self._ctypes.get_errno(), "the ring cannot be mapped")
        return np.ctypeslib.as_array((self._ctypes.c_uint8 * nbytes).from_address(address))

    def keep(self, memory: np.ndarray) -> None:
        """Let memory outlive everything that knows it."""
        self._ctypes.pythonapi.Py_IncRef(self._ctypes.py_object(memory))

    def release(self, memory: np.ndarray) -> None:
        """Take `keep` back."""
        self._ctypes.pythonapi.Py_DecRef(self._ctypes.py_object(memory))


@lru_cache(maxsize=1)
def libc() -> LibC:
    """Of this process.

    Raises:
        ImportError, AttributeError: this Python has no ctypes, or the library lacks something.
    """
    return LibC()

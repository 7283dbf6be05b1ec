"""The devices that loaders are tested on."""

from tests.cuda_devices import cuda, fake

__all__ = ["cuda", "fake"]

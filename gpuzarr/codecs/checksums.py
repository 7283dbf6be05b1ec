"""bytes -> bytes codecs that add a checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gpuzarr.codecs.chain import Codec
from gpuzarr.codecs.configuration import malformed, take_choice, take_int
from gpuzarr.program import HostOnly, VerifyChecksum, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuzarr.codecs.chain import Chain


def checksum(
    algorithm: Literal["crc32c", "crc32", "adler32", "fletcher32"], at: Literal["start", "end"]
) -> Callable[[Chain, Mapping[str, Any]], None]:
    """A 32-bit checksum, by default before or behind the bytes."""

    def lower_checksum(chain: Chain, configuration: Mapping[str, Any]) -> None:
        place = at
        if algorithm != "fletcher32":
            chosen = take_choice(algorithm, configuration, "location", ("start", "end"), at)
            place = "start" if chosen == "start" else "end"
        chain.push(VerifyChecksum(algorithm, place))

    return lower_checksum


def jenkins_lookup3(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `jenkins_lookup3`: a hash of a prefix and the bytes."""
    codec = "jenkins_lookup3"
    if configuration.get("prefix") is not None:
        malformed(codec, "'prefix' holds bytes, which JSON metadata cannot say")
    start = take_int(codec, configuration, "initval", 0, at_least=0)
    if start >> 32:
        malformed(codec, f"'initval' must have 32 bits, not {start}")
    chain.push(HostOnly(f"numcodecs.{codec}", canonical_json({"initval": start})))


CHECKSUMS = {
    "crc32c": Codec("bytes -> bytes", checksum("crc32c", "end")),
    "numcodecs.crc32c": Codec("bytes -> bytes", checksum("crc32c", "end")),
    "numcodecs.crc32": Codec("bytes -> bytes", checksum("crc32", "start")),
    "numcodecs.adler32": Codec("bytes -> bytes", checksum("adler32", "start")),
    "numcodecs.fletcher32": Codec("bytes -> bytes", checksum("fletcher32", "end")),
    "numcodecs.jenkins_lookup3": Codec("bytes -> bytes", jenkins_lookup3),
}

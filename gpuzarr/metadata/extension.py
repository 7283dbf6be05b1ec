"""Extension points: a name, a configuration, and whether a reader may ignore it.

Data types, grids, chunk key encodings, codecs and storage transformers all have this form:

    {"name": "zstd", "configuration": {"level": 3}, "must_understand": true}    or just "zstd"

Source: zarr-specs v3 core 3.1, "Extension definition". Names must match `^[a-z][a-z0-9-_.]+$` now,
but URIs are still permitted for old ones, so names are only looked up, never judged by form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuzarr.errors import MetadataError
from gpuzarr.metadata.document import (
    as_bool,
    as_object,
    as_text,
    check_members,
    member,
    wrong,
)

if TYPE_CHECKING:
    from gpuzarr.metadata.model import JSON

_MEMBERS = ("name", "configuration", "must_understand")


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension as the document has it."""

    name: str
    where: str
    """The member that holds it, for errors."""
    configuration: dict[str, JSON] = field(default_factory=dict)
    must_understand: bool = True

    def check_configuration(self, *known: str) -> None:
        """Refuse members of the configuration that this extension does not define."""
        check_members(self.configuration, f"{self.where}.configuration", known, self.name)

    def member(self, name: str) -> JSON:
        """A member of the configuration that must be there."""
        return member(self.configuration, name, f"{self.where}.configuration")


def parse_extension(value: JSON, where: str) -> Extension:
    """Read an extension, written as an object or by its name alone.

    Raises:
        MetadataError: neither of both, or an object with members that are not defined.
    """
    if isinstance(value, str) and value:
        return Extension(value, where)
    if not isinstance(value, dict):
        raise wrong(where, value, 'a name or an object with a "name"')
    check_members(value, where, _MEMBERS, "an extension")
    return Extension(
        as_text(member(value, "name", where), f"{where}.name"),
        where,
        as_object(value.get("configuration", {}), f"{where}.configuration"),
        as_bool(value.get("must_understand", True), f"{where}.must_understand"),
    )


def parse_essential(value: JSON, where: str) -> Extension:
    """Read an extension at a point where must_understand false is not supported.

    Raises:
        MetadataError: as `parse_extension`, or must_understand is false.
    """
    extension = parse_extension(value, where)
    if not extension.must_understand:
        raise MetadataError(
            f"{where}.must_understand is false, but no array can be read without its {where}"
        )
    return extension

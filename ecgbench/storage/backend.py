"""What a place for results can do, be it folders of a disk or objects of a bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

MANIFEST = "manifest.json"


class Backend(Protocol):
    """Entries by stage and key. An entry is a manifest and the files that it names with their SHA-256.

    What a killed writer left is no entry. Every method raises StoreError where the place cannot be read or written.
    """

    @property
    def place(self) -> str:
        """The absolute path of a folder, or a URL."""

    def where(self, stage: str, key: str) -> str:
        """The place of one entry, for messages."""

    def manifest(self, stage: str, key: str) -> bytes | None:
        """The manifest of an entry: None where there is no entry, empty where an entry lacks it."""

    def file(self, stage: str, key: str, name: str, sha256: str) -> bytes | None:
        """One file of an entry, None where it is missing. Its digest is not checked here."""

    def manifests(self, stage: str) -> Iterator[tuple[str, bytes]]:
        """Key and manifest of every entry of a stage, by key; of one that lacks it, empty."""

    def add(self, stage: str, key: str, manifest: bytes, files: Mapping[str, bytes], replace: bool) -> bool:
        """Write an entry, all or nothing. Without `replace` the first writer wins: False where there was an entry."""

    def set_aside(self, stage: str, key: str) -> None:
        """Move what lies under a key out of the way, among what is damaged."""

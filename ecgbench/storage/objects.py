"""Entries as objects of a bucket: files first, named by their digest, and the manifest last.

The manifest is written on condition that there is none (If-None-Match: *), so of two writers the first wins. Where a
server does not know that condition, the last one wins; an entry is whole either way, for it holds what its manifest
names. An entry lies in <prefix>/<stage>/<key>/, as in a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ecgbench.core.errors import NotInstalledError, StoreError
from ecgbench.storage.backend import MANIFEST
from ecgbench.storage.files import unique

if TYPE_CHECKING:
    from s3fs import S3FileSystem

SCHEME = "s3://"
AT_ONCE = 500  # manifests that are asked for together
LOST = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
"""How servers say that another writer was first."""


@dataclass(frozen=True)
class Objects:
    """Entries below s3://bucket/prefix, see `Backend`.

    Address, region and credentials are those of botocore: $AWS_ENDPOINT_URL, $AWS_ACCESS_KEY_ID, profiles, roles.
    """

    place: str

    def check(self) -> None:
        """Raises StoreError where the bucket is not there or may not be read, NotInstalledError without s3fs."""
        bucket, _, prefix = self._root.partition("/")
        with _asking(self.place, "read"):
            self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)

    def where(self, stage: str, key: str) -> str:
        return f"{self.place}/{stage}/{key}"

    def manifest(self, stage: str, key: str) -> bytes | None:
        return self._read(f"{self._entry(stage, key)}/{MANIFEST}")

    def file(self, stage: str, key: str, name: str, sha256: str) -> bytes | None:
        return self._read(f"{self._entry(stage, key)}/{sha256}")

    def manifests(self, stage: str) -> Iterator[tuple[str, bytes]]:
        with _asking(f"{self.place}/{stage}", "read"):
            folders = sorted(self._list(f"{self._root}/{stage}"))
            for first in range(0, len(folders), AT_ONCE):
                paths = [f"{folder}/{MANIFEST}" for folder in folders[first : first + AT_ONCE]]
                found = self._files.cat(paths, on_error="return")
                for path in paths:
                    if not isinstance(found[path], FileNotFoundError):
                        yield path.split("/")[-2], _given(found[path])

    def add(self, stage: str, key: str, manifest: bytes, files: Mapping[str, bytes], replace: bool) -> bool:
        entry, named = self._entry(stage, key), {_sha256(content): content for content in files.values()}
        with _asking(self.where(stage, key), "written"):
            for digest, content in named.items():
                self._files.pipe_file(f"{entry}/{digest}", content)
            won = self._put(f"{entry}/{MANIFEST}", manifest, replace)
            kept = {*named} if won else _digests(self._read(f"{entry}/{MANIFEST}"))
            mine = {f"{entry}/{digest}" for digest in named}
            others = {path for path in self._list(entry) if not path.endswith(MANIFEST)}
            self._remove((others if won else mine) - {f"{entry}/{digest}" for digest in kept})
        return won

    def set_aside(self, stage: str, key: str) -> None:
        entry, place = self._entry(stage, key), f"{self._root}/damaged/{stage}-{key[:12]}-{unique()}"
        with _asking(self.where(stage, key), "set aside"):
            paths = sorted(self._list(entry), key=lambda path: not path.endswith(MANIFEST))
            for path in paths:
                with suppress(FileNotFoundError):
                    self._files.cp_file(path, f"{place}/{path.rpartition('/')[2]}")
            self._remove(paths)

    @cached_property
    def _files(self) -> S3FileSystem:
        try:
            from s3fs import S3FileSystem
        except ImportError:
            raise NotInstalledError("s3fs", 'install it by: pip install "ecgbench-robustness[object-store]"') from None
        return S3FileSystem(use_listings_cache=False)

    @property
    def _root(self) -> str:
        return self.place.removeprefix(SCHEME)

    def _entry(self, stage: str, key: str) -> str:
        return f"{self._root}/{stage}/{key}"

    def _read(self, path: str) -> bytes | None:
        with _asking(SCHEME + path, "read"):
            try:
                return bytes(self._files.cat_file(path))
            except FileNotFoundError:
                return None

    def _list(self, path: str) -> list[str]:
        """What lies directly below a path."""
        try:
            return list(self._files.ls(path, detail=False, refresh=True))
        except FileNotFoundError:
            return []

    def _put(self, path: str, content: bytes, replace: bool) -> bool:
        """Write one object; False where there is one already that is not to be replaced."""
        try:
            self._files.pipe_file(path, content, mode="overwrite" if replace else "create")
        except OSError as fault:
            if replace or not (isinstance(fault, FileExistsError) or _code(fault) in LOST):
                raise
            return False
        return True

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self._files.rm_file(path)


@contextmanager
def _asking(place: str, method: str) -> Iterator[None]:
    """Turns what the library raises inside into a StoreError of `place`."""
    try:
        yield
    except (StoreError, NotInstalledError):
        raise
    except Exception as fault:  # botocore, aiohttp and s3fs each raise what they like
        reason = " ".join(str(fault).split()).rstrip(".") or type(fault).__name__
        step = "check the bucket, its address ($AWS_ENDPOINT_URL) and the credentials"
        raise StoreError(f"{place} cannot be {method} ({reason}); {step}.") from fault


def _given(found: bytes | Exception) -> bytes:
    if isinstance(found, Exception):
        raise found
    return found


def _code(fault: BaseException) -> str | None:
    """What the server called an error."""
    said = getattr(fault.__cause__, "response", None) or {}
    return said.get("Error", {}).get("Code")


def _digests(manifest: bytes | None) -> set[str]:
    """The files that a manifest names."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        return set(json.loads(manifest or b"")["files"].values())
    return set()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""A store by its place: a folder, or the URL of a bucket."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from ecgbench.core.errors import EcgbenchError
from ecgbench.storage.objects import SCHEME, Objects
from ecgbench.storage.store import Store

REMOTE = "remote"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # with one slash, too: a Path has lost the other one
_BUCKET = re.compile(r"s3://[A-Za-z0-9._-]+(/[^\s?#]*)?")


def is_url(place: str | Path) -> bool:
    """Whether a place is no folder."""
    return _URL.match(str(place)) is not None


def open_store(place: str | Path, local: Path, report: Callable[[str], None] = lambda _: None) -> Store:
    """The store at `place`, a folder or s3://bucket/prefix; what is unfinished in a bucket is kept below `local`.

    Raises EcgbenchError for any other URL, StoreError where the bucket cannot be read.
    """
    if not is_url(place):
        return Store(Path(place), report)
    url = re.sub("(?<!:)//+", "/", str(place)).rstrip("/")
    if not _BUCKET.fullmatch(url):
        raise EcgbenchError(f"the store {place} was given; expected a folder, or a URL such as {SCHEME}bucket/prefix.")
    objects = Objects(url)
    objects.check()
    return Store(local / REMOTE / quote(url, safe=""), report, objects)


def reopened(place: str, root: Path, report: Callable[[str], None] = lambda _: None) -> Store:
    """The store whose `entries.place` is `place` and whose `root` is `root`, in another process; nothing is checked."""
    return Store(root, report, Objects(place) if is_url(place) else None)

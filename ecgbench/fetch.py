"""Recordings downloaded from the place a dataset names, every file checked against its SHA-256."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ecgbench.dataroot import Remote, sha256
from ecgbench.errors import DataError

if TYPE_CHECKING:
    from requests import HTTPError

RETRIES = 3  # after the first attempt, with pauses of 1, 2 and 3 s
TIMEOUT = 60.0  # seconds without an answer
_WORTH_ANOTHER = (408, 425, 429)  # the refusals below 500 that may pass
_LINE = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S.*)")


def get(name: str, remote: Remote, home: Path, *, tell: Callable[[str], None]) -> Path:
    """The folder below `home` that holds the files of dataset `name`, downloaded where missing or wrong.

    `tell` is given a line before each download. A file comes to its place only when its sum is right, so a
    call that was broken off is taken up by the next one; nothing is asked of the network where all is well.
    Raises DataError naming the file and its address.
    """
    folder = home / remote.folder
    if not verify(name, remote, folder):
        return folder
    with _quiet():
        sums = _download_sums(name, remote, folder)
        missing = [file for file in sums if not _holds(folder / file, sums[file])]
        for number, file in enumerate(missing, start=1):
            tell(f"{name}: {file} ({number} of {len(missing)})")
            _download(name, remote.url + quote(file), folder / file, sums[file])
    return folder


def verify(name: str, remote: Remote, folder: Path) -> list[str]:
    """What is wrong with the files in `folder`, a phrase each, by the list of sums that lies there."""
    listed = folder / remote.sums
    if not listed.is_file():
        return [f"{name}: {remote.sums} is missing in {folder}"]
    try:
        sums = _read_sums(name, remote, listed)
    except DataError as error:
        return [str(error)]
    faults = []
    for file, sum_ in sums.items():
        if not (folder / file).is_file():
            faults.append(f"{name}: {file} is missing")
        elif not _holds(folder / file, sum_):
            faults.append(f"{name}: {file} does not have the SHA-256 that {remote.sums} states")
    return faults


def _download_sums(name: str, remote: Remote, folder: Path) -> dict[str, str]:
    aside = folder / f"{remote.sums}.part"
    with suppress(OSError):
        aside.unlink()
    _download(name, remote.url + remote.sums, aside, None)
    try:
        sums = _read_sums(name, remote, aside)
        aside.replace(folder / remote.sums)
    finally:
        aside.unlink(missing_ok=True)
    return sums


def _read_sums(name: str, remote: Remote, path: Path) -> dict[str, str]:
    """SHA-256 by file, of the wanted files."""
    sums = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.fullmatch(line.strip())
        file = PurePosixPath(match[2]) if match else PurePosixPath("..")
        if match is None or file.is_absolute() or ".." in file.parts:
            raise DataError(f"{name}: {remote.sums} holds {line[:60]!r}; expected a SHA-256 and a file name a line.")
        if match[2].endswith(remote.wanted):
            sums[match[2]] = match[1].lower()
    if not sums:
        raise DataError(f"{name}: {remote.sums} lists no file that is wanted; expected {remote.wanted}.")
    return sums


def _holds(path: Path, sum_: str) -> bool:
    return path.is_file() and sha256(path) == sum_


def _download(name: str, url: str, target: Path, sum_: str | None) -> None:
    import pooch
    import requests

    def once(url: str, output: str, pup: object) -> None:
        Path(output).unlink()  # made readable for its owner alone; made anew below, as the user's umask says
        try:
            pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT)(url, output, pup)
        except requests.HTTPError as error:
            if error.response is not None:
                error.response.close()
            if _status(error) < 500 and _status(error) not in _WORTH_ANOTHER:
                raise _RefusedError(_status(error)) from error
            raise

    registry = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: sum_},
        urls={target.name: url},
        retry_if_failed=RETRIES,
    )
    try:
        registry.fetch(target.name, downloader=once)
    except (_RefusedError, OSError, ValueError) as error:
        parts = urlsplit(url)
        address = f"{parts.netloc}{parts.path}"
        file = PurePosixPath(parts.path).name
        raise DataError(f"{name}: {file} cannot be downloaded from {address}: {_reason(error)}.") from error


class _RefusedError(Exception):
    """An answer that no further attempt would change."""


def _status(error: HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _reason(error: Exception) -> str:
    import requests

    attempts = f"in {RETRIES + 1} attempts"
    match error:
        case _RefusedError():
            return f"the server refuses with status {error.args[0]}"
        case requests.HTTPError():
            return f"the server answered {_status(error)} {attempts}; try again later"
        case requests.exceptions.ChunkedEncodingError():
            return f"the file broke off before its end {attempts}; try again later"
        case requests.RequestException():
            return f"no connection {attempts} ({type(error).__name__}); is there a network?"
        case OSError():
            return f"it cannot be written ({error.strerror or error})"
    return f"its SHA-256 is not the stated one {attempts}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pooch's own messages."""
    import pooch

    logger: Any = pooch.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)

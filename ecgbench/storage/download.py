"""Recordings downloaded from the place a dataset names, every file checked against its SHA-256.

A server is believed in nothing that can be checked: sums, sizes, names of files, how long it may take, where it sends
one on to. What a dataset's plugin pins is checked against the plugin, whatever the server's list of sums says.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from ecgbench.core.dataroot import Remote, digest, sha256
from ecgbench.core.errors import DataError

if TYPE_CHECKING:
    from requests import HTTPError, Response

RETRIES = 3  # after the first attempt, with pauses of 1, 2 and 3 s
TIMEOUT = 60.0  # seconds without an answer
SLOWEST = 1 << 10  # bytes a second, on the whole of a file, beyond the first TIMEOUT seconds
SUMS = 1 << 25  # bytes of a list of sums
REDIRECTS = 5
_WORTH_ANOTHER = (408, 425, 429)  # the refusals below 500 that may pass
_LINE = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S.*)")


def get(name: str, remote: Remote, home: Path, *, tell: Callable[[str], None]) -> Path:
    """The folder below `home` that holds the files of dataset `name`, downloaded where missing or wrong.

    `tell` is given a line before each download. A file comes to its place only when its sum is right, so a
    call that was broken off is taken up by the next one; nothing is asked of the network where all is well.
    Raises DataError naming the file and its address.
    """
    folder = home / remote.folder
    if verify(name, remote, folder):
        with _quiet():
            sums = _download_sums(name, remote, folder)
            missing = [file for file in sums if not _holds(folder / file, sums[file])]
            for number, file in enumerate(missing, start=1):
                tell(f"{name}: {file} ({number} of {len(missing)})")
                _download(name, remote.url + quote(file), folder / file, sums[file], remote.largest)
    for file in _read_sums(name, remote, folder / remote.sums) if remote.archives else ():
        if file.endswith(remote.archives):
            _unpack(name, folder / file, remote.largest)
    return folder


def unpinned(name: str, remote: Remote, files: Mapping[str, Path]) -> list[str]:
    """What differs between the `files` that a dataset reads and the version that its plugin pins, a phrase."""
    pinned = {file: path for file, path in files.items() if file.endswith(remote.pinned)}
    found = digest(pinned, remote.newlines) if remote.content else ""
    if found == remote.content:
        return []
    expected = f"expected the digest {remote.content[:12]}, got {found[:12]}"
    return [f"{name}: these {len(pinned)} recordings are not those of the version at {remote.url}: {expected}"]


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
    _download(name, remote.url + remote.sums, aside, None, SUMS)
    try:
        sums = _read_sums(name, remote, aside)
        aside.replace(folder / remote.sums)
    finally:
        aside.unlink(missing_ok=True)
    return sums


def _read_sums(name: str, remote: Remote, path: Path) -> dict[str, str]:
    """SHA-256 by file, of the wanted files."""
    sums: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None or not _below(match[2]) or sums.get(match[2], match[1].lower()) != match[1].lower():
            raise DataError(f"{name}: {remote.sums} holds {line[:60]!r}; expected a SHA-256 and a file name a line.")
        if match[2].endswith(remote.wanted):
            sums[match[2]] = match[1].lower()
    if not sums:
        raise DataError(f"{name}: {remote.sums} lists no file that is wanted; expected {remote.wanted}.")
    return sums


def _below(file: str) -> bool:
    """Whether the name of a file stays below the folder it is joined to, on every system."""
    path = PurePosixPath(file)
    whole = file.isprintable() and not {"\\", ":"} & set(file)
    return whole and not path.is_absolute() and not {"..", ""} & set(file.split("/"))


def _unpack(name: str, archive: Path, largest: int) -> None:
    """Write the files in a tar file that are not beside it, or have another size there; each comes to its place whole.

    Raises DataError where it is no tar file, or holds anything but files and folders below its own folder, or files of
    more than `largest` bytes in all.
    """
    import tarfile

    total = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                total += member.size
                if not (member.isfile() or member.isdir()) or not _below(member.name) or total > largest:
                    raise DataError(
                        f"{name}: {archive.name} holds {member.name[:60]!r}; expected files below its own folder, of "
                        f"at most {largest} bytes in all."
                    )
                content = tar.extractfile(member)
                if content is not None:
                    _put(archive.parent / member.name, member.size, content.read)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(
            f"{name}: {archive.name} cannot be unpacked ({type(error).__name__}); expected a whole tar file."
        ) from error
    except OSError as error:
        raise DataError(f"{name}: {archive.name} cannot be unpacked ({error.strerror or error}).") from error


def _put(target: Path, size: int, read: Callable[[], bytes]) -> None:
    if target.is_file() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.part")
    aside.write_bytes(read())
    aside.replace(target)


def _holds(path: Path, sum_: str) -> bool:
    return path.is_file() and sha256(path) == sum_


def _download(name: str, url: str, target: Path, sum_: str | None, largest: int) -> None:
    import pooch
    import requests

    def once(url: str, output: str, pup: object) -> None:
        Path(output).unlink()  # made readable for its owner alone; made anew below, as the user's umask says
        try:
            with _answer(url) as response:
                _save(response, Path(output), largest)
        except requests.HTTPError as error:
            if _status(error) < 500 and _status(error) not in _WORTH_ANOTHER:
                raise _RefusedError(f"the server refuses with status {_status(error)}") from error
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


def _answer(url: str) -> Response:
    """The server's answer, its body not yet read, after redirections on the same host.

    Raises _RefusedError for a redirection elsewhere, or from https to http: what is read is what the address names.
    """
    import requests

    for _ in range(REDIRECTS):
        response = requests.get(
            url, stream=True, timeout=TIMEOUT, allow_redirects=False, headers={"Accept-Encoding": "identity"}
        )
        if response.ok and not response.is_redirect:
            return response
        response.close()
        response.raise_for_status()
        here, url = urlsplit(url), urljoin(url, response.headers["Location"])
        there = urlsplit(url)
        if there.hostname != here.hostname or there.scheme not in ("https", here.scheme):
            raise _RefusedError(f"the server sends one on to {there.scheme}://{there.netloc} (--from names an address)")
    raise _RefusedError(f"the server sends one on more than {REDIRECTS} times")


def _save(response: Response, output: Path, largest: int) -> None:
    """Write the body, as it comes. Raises _RefusedError where it is too long or takes too long."""
    import requests
    import urllib3

    stated = response.headers.get("Content-Length", "")
    if stated.isdigit() and int(stated) > largest:
        raise _RefusedError(f"it has {stated} bytes, more than the {largest} that are expected")
    began, size = time.monotonic(), 0
    try:
        with output.open("wb") as file:
            for piece in _arriving(response):
                size += file.write(piece)
                if size > largest:
                    raise _RefusedError(f"it does not end after the {largest} bytes that are expected")
                if time.monotonic() - began > TIMEOUT + size / SLOWEST:
                    raise _RefusedError(f"it comes more slowly than {SLOWEST} bytes a second")
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    if stated.isdigit() and size < int(stated):
        raise requests.exceptions.ChunkedEncodingError


def _arriving(response: Response) -> Iterator[bytes]:
    """What has come of the body, without waiting for more of it; in small pieces where urllib3 is older than 2.2."""
    if hasattr(response.raw, "read1"):
        return iter(partial(response.raw.read1, 1 << 16), b"")
    return iter(response.iter_content(1 << 8))


class _RefusedError(Exception):
    """An answer that no further attempt would change."""


def _status(error: HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _reason(error: Exception) -> str:
    import requests

    attempts = f"in {RETRIES + 1} attempts"
    match error:
        case _RefusedError():
            return str(error)
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

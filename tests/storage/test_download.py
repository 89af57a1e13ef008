"""Downloads from a server that tells the truth, cuts files short, sends others, refuses, or is not there."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ecgbench.core.dataroot import Remote
from ecgbench.core.errors import DataError
from ecgbench.registry.catalog import discover
from ecgbench.storage import download

TREE = {"100.dat": b"signal" * 1000, "100.hea": b"100 2 360", "extra/101.dat": b"more", "readme.html": b"no"}


def sums(tree: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in tree.items()).encode()


class Server(ThreadingHTTPServer):
    """Serves `tree`; `fault` may answer in its place. Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tree = {**TREE, "SHA256SUMS.txt": sums(TREE)}
        self.asked: list[str] = []
        self.closing = threading.Event()
        self.moved: dict[str, str] = {}
        self.endless: dict[str, float] = {}
        self.fault: Callable[[str], tuple[int, bytes, int] | None] = lambda name: None

    def remote(self, wanted: tuple[str, ...] = (".dat", ".hea")) -> Remote:
        return Remote(f"http://127.0.0.1:{self.server_port}/db/1.0/", "db", wanted=wanted, largest=1 << 14)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/db/1.0/")
        self.server.asked.append(name)
        if name in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[name])
            self.end_headers()
            return
        if name in self.server.endless:
            self.drip(self.server.endless[name])
            return
        body = self.server.tree.get(name)
        answer = self.server.fault(name) or ((404, b"", 0) if body is None else (200, body, len(body)))
        status, sent, stated = answer
        self.send_response(status)
        self.send_header("Content-Length", str(stated))
        self.end_headers()
        self.wfile.write(sent)

    def drip(self, pause: float) -> None:
        """Bytes without end, of no stated length, until nobody listens or the server is shut down."""
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while not self.server.closing.wait(pause):
                self.wfile.write(b"x" if pause else b"x" * 4096)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def get(server: Server, home: Path, told: list[str] | None = None) -> Path:
    return download.get("toy", server.remote(), home, tell=(told if told is not None else []).append)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WANTED = {"SHA256SUMS.txt", "100.dat", "100.hea", "extra/101.dat"}


def test_a_download_brings_the_wanted_files_and_no_other(server: Server, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    assert folder == tmp_path / "db"
    assert files(folder) == WANTED
    assert (folder / "extra/101.dat").read_bytes() == TREE["extra/101.dat"]


def test_a_downloaded_file_has_the_usual_mode_of_the_user(server: Server, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert (get(server, tmp_path) / "100.dat").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_each_file_is_told_before_it_is_downloaded(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    get(server, tmp_path, told)
    assert told == ["toy: 100.dat (1 of 3)", "toy: 100.hea (2 of 3)", "toy: extra/101.dat (3 of 3)"]


def test_a_whole_folder_asks_nothing_of_the_network(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    server.asked.clear()
    get(server, tmp_path)
    assert server.asked == []


def test_only_what_is_missing_or_wrong_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    (folder / "100.dat").write_bytes(b"scratched")
    (folder / "100.hea").unlink()
    server.asked.clear()
    get(server, tmp_path)
    assert server.asked == ["SHA256SUMS.txt", "100.dat", "100.hea"]
    assert download.verify("toy", server.remote(), folder) == []


def test_a_damaged_list_of_sums_is_replaced(server: Server, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    (folder / "SHA256SUMS.txt").write_text("<html>sign in</html>")
    get(server, tmp_path)
    assert download.verify("toy", server.remote(), folder) == []


def test_a_server_that_is_busy_twice_is_asked_a_third_time(server: Server, tmp_path: Path) -> None:
    server.fault = lambda name: (503, b"", 0) if name == "100.dat" and server.asked.count(name) < 3 else None
    assert files(get(server, tmp_path)) == WANTED
    assert server.asked.count("100.dat") == 3


def refused(server: Server, home: Path) -> str:
    """The error of a download that fails at 100.dat, after a look at what it left behind."""
    with pytest.raises(DataError) as caught:
        get(server, home)
    assert files(home) == {"db/SHA256SUMS.txt"}
    message = str(caught.value)
    assert message.startswith(f"toy: 100.dat cannot be downloaded from 127.0.0.1:{server.server_port}/db/1.0/100.dat:")
    assert message.count(". ") == 0 and message.endswith(".")
    return message


def test_a_server_that_stays_busy_is_an_error_after_four_attempts(server: Server, tmp_path: Path) -> None:
    server.fault = lambda name: (503, b"", 0) if name == "100.dat" else None
    assert "503 in 4 attempts; try again later" in refused(server, tmp_path)
    assert server.asked.count("100.dat") == 4


def test_a_file_the_server_does_not_have_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    del server.tree["100.dat"]
    assert "refuses with status 404" in refused(server, tmp_path)
    assert server.asked.count("100.dat") == 1


def test_a_file_cut_short_is_an_error_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.fault = lambda name: (200, b"sig", 6000) if name == "100.dat" else None
    assert "broke off before its end" in refused(server, tmp_path)


def test_a_file_with_another_sum_is_an_error_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.tree["100.dat"] = b"something else"
    assert "its SHA-256 is not the stated one" in refused(server, tmp_path)


def test_a_wrong_file_stays_as_it_was_when_the_new_one_is_wrong_too(server: Server, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    (folder / "100.dat").write_bytes(b"mine")
    server.tree["100.dat"] = b"something else"
    with pytest.raises(DataError):
        get(server, tmp_path)
    assert (folder / "100.dat").read_bytes() == b"mine"


def test_no_network_is_an_error_that_names_the_address(server: Server, tmp_path: Path) -> None:
    remote = server.remote()
    server.server_close()
    with pytest.raises(DataError, match=r"SHA256SUMS.txt cannot be .*/db/1.0/SHA256SUMS.txt: no connection in 4"):
        download.get("toy", remote, tmp_path, tell=lambda line: None)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    "text",
    ["<html>sign in</html>", f"{'0' * 64} ../outside.dat", f"{'0' * 64} /etc/outside.dat", "abc 100.dat", ""],
)
def test_a_list_of_sums_that_is_none_is_refused_and_not_kept(text: str, server: Server, tmp_path: Path) -> None:
    server.tree["SHA256SUMS.txt"] = text.encode()
    with pytest.raises(DataError, match=r"toy: SHA256SUMS\.txt (holds|lists no)"):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_a_home_that_cannot_be_written_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    with pytest.raises(DataError, match="it cannot be written"):
        get(server, tmp_path)


def test_verify_names_what_is_missing_and_what_is_wrong(server: Server, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    (folder / "100.dat").write_bytes(b"scratched")
    (folder / "100.hea").unlink()
    assert download.verify("toy", server.remote(), folder) == [
        "toy: 100.dat does not have the SHA-256 that SHA256SUMS.txt states",
        "toy: 100.hea is missing",
    ]


def test_verify_without_a_list_of_sums_says_so(tmp_path: Path) -> None:
    (fault,) = download.verify("toy", Remote("http://127.0.0.1/", "db"), tmp_path)
    assert fault.startswith("toy: SHA256SUMS.txt is missing")


def test_the_sums_may_be_written_as_by_sha256sum_in_binary_mode(server: Server, tmp_path: Path) -> None:
    server.tree["SHA256SUMS.txt"] = sums(TREE).replace(b" ", b" *")
    assert files(get(server, tmp_path)) == WANTED


def test_the_download_library_says_nothing_and_keeps_its_level(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import pooch

    before = pooch.get_logger().level
    get(server, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert pooch.get_logger().level == before != logging.CRITICAL


# a server that is not believed


def test_a_file_without_end_is_cut_off_and_asked_for_once(server: Server, tmp_path: Path) -> None:
    server.endless["100.dat"] = 0
    assert "it does not end after the 16384 bytes that are expected" in refused(server, tmp_path)
    assert server.asked.count("100.dat") == 1


def test_a_file_that_is_said_to_be_too_large_is_not_read(server: Server, tmp_path: Path) -> None:
    server.fault = lambda name: (200, b"", 1 << 40) if name == "100.dat" else None
    assert f"it has {1 << 40} bytes, more than the 16384 that are expected" in refused(server, tmp_path)


def test_a_file_that_trickles_is_cut_off(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    server.endless["100.dat"] = 0.01
    assert "it comes more slowly than 1024 bytes a second" in refused(server, tmp_path)


def test_a_list_of_sums_without_end_is_cut_off(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SUMS", 1 << 13)
    server.endless["SHA256SUMS.txt"] = 0
    with pytest.raises(DataError, match="does not end after the 8192 bytes"):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_a_redirection_on_the_same_host_is_followed(server: Server, tmp_path: Path) -> None:
    server.tree["moved.dat"] = TREE["100.dat"]
    server.moved["100.dat"] = "moved.dat"
    assert files(get(server, tmp_path)) == WANTED


@pytest.mark.parametrize(
    ("to", "shown"),
    [
        ("file:///etc/hosts", "file://"),
        ("http://localhost:1/100.dat", "http://localhost:1"),
        ("ftp://127.0.0.1/100.dat", "ftp://127.0.0.1"),
        ("//example.invalid/100.dat", "http://example.invalid"),
    ],
)
def test_a_redirection_elsewhere_is_refused(to: str, shown: str, server: Server, tmp_path: Path) -> None:
    server.moved["100.dat"] = to
    message = refused(server, tmp_path)
    assert f"the server sends one on to {shown} (--from names an address)" in message
    assert server.asked.count("100.dat") == 1


def test_a_redirection_in_a_circle_ends(server: Server, tmp_path: Path) -> None:
    server.moved["100.dat"] = "100.dat"
    assert f"sends one on more than {download.REDIRECTS} times" in refused(server, tmp_path)


@pytest.mark.parametrize(
    "name", ["../100.dat", "a/../../100.dat", "/100.dat", "a//100.dat", "C:100.dat", "..\\100.dat", "a\x00.dat"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, server: Server, tmp_path: Path) -> None:
    server.tree["SHA256SUMS.txt"] += f"{'0' * 64} {name}\n".encode()
    with pytest.raises(DataError, match=r"SHA256SUMS\.txt holds"):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_a_file_with_two_sums_is_refused(server: Server, tmp_path: Path) -> None:
    server.tree["SHA256SUMS.txt"] += f"{'0' * 64} 100.dat\n".encode()
    with pytest.raises(DataError, match=r"SHA256SUMS\.txt holds"):
        get(server, tmp_path)


# what a plugin pins


def pinned(folder: Path) -> tuple[Remote, dict[str, Path]]:
    """A signal and a header, whose line ends are those of another system, and a remote that pins them."""
    paths = {name: folder / name for name in ("100.dat", "100.hea", "RECORDS")}
    bodies = {"100.dat": b"a\r\nb\n", "100.hea": b"100 2 360\n"}
    known = hashlib.sha256()
    for name, body in bodies.items():
        paths[name].write_bytes(body.replace(b"\n", b"\r\n") if name == "100.hea" else body)
        known.update(f"{name}\0{hashlib.sha256(body).hexdigest()}\n".encode())
    paths["RECORDS"].write_text("100")
    return (
        Remote(
            "http://127.0.0.1/", "db", content=known.hexdigest(), pinned=(".dat", ".hea"), newlines=((".hea", b"\n"),)
        ),
        paths,
    )


def test_recordings_that_are_those_of_the_version_pass_whatever_their_line_ends(tmp_path: Path) -> None:
    remote, paths = pinned(tmp_path)
    assert download.unpinned("toy", remote, paths) == []
    paths["100.hea"].write_bytes(b"100 2 360\n")
    paths["RECORDS"].write_text("another list")
    assert download.unpinned("toy", remote, paths) == []


@pytest.mark.parametrize(("name", "body"), [("100.dat", b"a\nb\n"), ("100.hea", b"100 2 361\r\n")])
def test_recordings_that_a_server_states_consistently_and_wrongly_are_found(
    name: str, body: bytes, tmp_path: Path
) -> None:
    remote, paths = pinned(tmp_path)
    paths[name].write_bytes(body)
    (fault,) = download.unpinned("toy", remote, paths)
    assert fault.startswith("toy: these 2 recordings are not those of the version at http://127.0.0.1/: expected the ")


def test_a_recording_too_few_is_found(tmp_path: Path) -> None:
    remote, paths = pinned(tmp_path)
    del paths["100.dat"]
    assert download.unpinned("toy", remote, paths)


def test_a_remote_that_pins_nothing_is_believed(tmp_path: Path) -> None:
    assert download.unpinned("toy", Remote("http://127.0.0.1/", "db"), pinned(tmp_path)[1]) == []


@pytest.mark.parametrize("name", ["mitbih", "cinc2017"])
def test_every_built_in_set_of_recordings_is_pinned(name: str) -> None:
    remote = discover().resolve("dataset", name).remote
    assert remote is not None and len(remote.content) == 64 and remote.largest <= 1 << 22


# archives


def tar(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """A compressed tar file of the given files, all of one kind, in a folder each."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return body.getvalue()


def serve(server: Server, archive: bytes) -> Remote:
    server.tree = {"set.tar.gz": archive, "SHA256SUMS.txt": sums({"set.tar.gz": archive})}
    return Remote(f"http://127.0.0.1:{server.server_port}/db/1.0/", "db", archives=(".tar.gz",), largest=1 << 14)


def test_a_tar_file_is_unpacked_where_it_lies(server: Server, tmp_path: Path) -> None:
    remote = serve(server, tar(("set/1.txt", b"one"), ("set/2.txt", b"two")))
    folder = download.get("toy", remote, tmp_path, tell=lambda line: None)
    assert files(folder) == {"SHA256SUMS.txt", "set.tar.gz", "set/1.txt", "set/2.txt"}
    assert (folder / "set/2.txt").read_bytes() == b"two"


def test_what_is_missing_of_a_tar_file_is_unpacked_again_without_the_network(server: Server, tmp_path: Path) -> None:
    remote = serve(server, tar(("set/1.txt", b"one"), ("set/2.txt", b"two")))
    folder = download.get("toy", remote, tmp_path, tell=lambda line: None)
    (folder / "set/1.txt").unlink()
    (folder / "set/2.txt").write_bytes(b"t")
    server.asked.clear()
    download.get("toy", remote, tmp_path, tell=lambda line: None)
    assert [(folder / f"set/{n}.txt").read_bytes() for n in (1, 2)] == [b"one", b"two"] and not server.asked


@pytest.mark.parametrize(
    "archive",
    [
        tar(("../1.txt", b"one")),
        tar(("/tmp/1.txt", b"one")),
        tar(("set/1.txt", b""), kind=tarfile.SYMTYPE),
        tar(("set/1.txt", b""), kind=tarfile.LNKTYPE),
        tar(*((f"set/{n}.txt", bytes(1 << 12)) for n in range(5))),
    ],
    ids=["above", "absolute", "symlink", "hard link", "too much"],
)
def test_a_tar_file_of_more_than_its_own_files_is_refused(server: Server, tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(
        DataError, match=r"^toy: set.tar.gz holds '.*'; expected files below its own folder, of at most "
    ):
        download.get("toy", serve(server, archive), tmp_path / "home", tell=lambda line: None)
    assert {path.name for path in tmp_path.rglob("*.txt")} <= {"SHA256SUMS.txt", *(f"{n}.txt" for n in range(4))}
    assert not (tmp_path / "1.txt").exists()


@pytest.mark.parametrize(
    "archive",
    [b"no tar file", gzip.compress(b"no tar file"), tar(("set/1.txt", bytes(range(256)) * 9))[:-90]],
    ids=["bytes", "gzip", "cut"],
)
def test_what_is_no_whole_tar_file_is_one_sentence(server: Server, tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(DataError, match=r"^toy: set.tar.gz cannot be unpacked \(.*\)[^\n]*\.$"):
        download.get("toy", serve(server, archive), tmp_path, tell=lambda line: None)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]

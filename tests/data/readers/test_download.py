"""Downloads from a server of our own on localhost: resume, checksum, all or nothing."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from p_rnn.data.readers import movielens
from p_rnn.data.readers.download import download, fetch_folder
from p_rnn.data.readers.movielens import MovieLensReader
from p_rnn.settings.errors import UserError

CONTENT = bytes(n * 7919 % 251 for n in range(100_000))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `ranges` switches Range support, `cut` breaks a response off early."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file.bin": CONTENT}
        self.ranges = True
        self.cut: int | None = None
        self.asked: list[str | None] = []  # the Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if server.cut is None else body[: server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetches_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert server.asked == [None]  # what is there is not fetched again


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_after_a_break(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    server.cut = 40_000
    with pytest.raises(UserError, match=r"closed at byte 40000 of 100000.*run again to resume"):
        download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert names(tmp_path) == ["file.bin.part"]
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:40_000]
    server.cut = None
    download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert server.asked == [None, "bytes=40000-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_complete_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert names(tmp_path) == ["file.bin"]


def test_long_part_is_replaced_without_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"garbage")
    download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("left_over", [None, b"garbage", CONTENT + b"garbage"])
def test_wrong_checksum_leaves_nothing(
    server: Server, tmp_path: Path, left_over: bytes | None
) -> None:
    if left_over is None:
        server.files["/file.bin"] = CONTENT + b"!"
    else:
        (tmp_path / "file.bin.part").write_bytes(left_over)
    with pytest.raises(UserError, match=f"instead of {MD5}, so the download was deleted") as caught:
        download(server.url + "file.bin", tmp_path / "file.bin", MD5)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_no_such_file_and_no_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot download .*nope\.bin .*404"):
        download(server.url + "nope.bin", tmp_path / "nope.bin", MD5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: refuses connections
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        with pytest.raises(UserError, match="by other means to") as caught:
            download(url, tmp_path / "file.bin", MD5)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def test_fetch_folder(server: Server, tmp_path: Path) -> None:
    content = zipped({"tiny/a.txt": "hello", "tiny/b/c.txt": "there"})
    server.files["/tiny.zip"] = content
    target = tmp_path / "new" / "tiny"
    fetch_folder(server.url + "tiny.zip", hashlib.md5(content).hexdigest(), target)
    assert (target / "a.txt").read_text() == "hello"
    assert (target / "b" / "c.txt").read_text() == "there"
    assert names(tmp_path / "new") == ["tiny"]


@pytest.mark.parametrize("content", [b"no zip", zipped({"other/a.txt": "hello"})])
def test_fetch_folder_refuses_another_zip(server: Server, tmp_path: Path, content: bytes) -> None:
    server.files["/tiny.zip"] = content
    with pytest.raises(UserError, match=r"tiny\.zip"):
        fetch_folder(server.url + "tiny.zip", hashlib.md5(content).hexdigest(), tmp_path / "tiny")
    assert names(tmp_path) == ["tiny.zip"]


def test_movielens_downloads_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped(
        {"ml-1m/ratings.dat": "1::10::5::978300760\n", "ml-1m/movies.dat": "10::A (2000)::Drama\n"}
    )
    server.files["/ml-1m.zip"] = content
    monkeypatch.setattr(movielens, "BASE_URL", server.url)
    monkeypatch.setitem(movielens.MD5, "ml-1m", hashlib.md5(content).hexdigest())
    reader = MovieLensReader(tmp_path, "", path="movielens/ml-1m", download=True)
    assert not (tmp_path / "movielens").exists()  # the constructor touches nothing
    assert reader.sources() == [tmp_path / "movielens" / "ml-1m" / "ratings.dat"]
    assert next(iter(reader.events()))["item"].tolist() == [10]
    assert reader.items()["title"].tolist() == ["A"]
    assert server.asked == [None]
    other = MovieLensReader(tmp_path, "", path="movielens/ml-10m", download=True)
    with pytest.raises(UserError, match="has ml-100k, ml-1m, not 'ml-10m'"):
        other.sources()

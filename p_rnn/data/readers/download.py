"""Public archives: downloaded (resuming if interrupted), verified and unpacked atomically."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from p_rnn.data.readers.files import explained, one_line
from p_rnn.files import flush
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)

BLOCK_BYTES = 2**20
TIMEOUT_S = 60


def fetch_folder(url: str, md5: str, folder: Path) -> None:
    """Download a zip whose top folder has the name of `folder`, and unpack it there.

    The zip is removed afterwards. The next call resumes a download that was interrupted.

    Raises:
        UserError: no connection, a wrong checksum, or a zip without that folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.parent / url.rsplit("/", 1)[-1]
    download(url, archive, md5)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        with explained(str(archive)), zipfile.ZipFile(archive) as content:
            content.extractall(temporary)
        unpacked = Path(temporary) / folder.name
        if not unpacked.is_dir():
            raise UserError(f"{archive} has no folder '{folder.name}'; unpack it by hand")
        unpacked.rename(folder)
    archive.unlink()


def download(url: str, target: Path, md5: str) -> None:
    """Download `url` to `<target>.part`, verify it and rename it to `target`.

    A `.part` left by an earlier call is resumed if the server supports that (HTTP Range), and
    otherwise downloaded again.

    Raises:
        UserError: no connection or an interrupted one (the `.part` stays, so that the next run
            resumes), or a wrong checksum (the `.part` is removed).
    """
    if target.exists() and _md5(target) == md5:
        return
    part = target.with_name(target.name + ".part")
    try:
        _fetch(url, part)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise UserError(
            f"cannot download {url} ({one_line(error)}); run again to resume, "
            f"or download it by other means to {target}"
        ) from None
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url} has the MD5 checksum {found} instead of {md5}, so the download was deleted; "
            "run again, and if this happens again, the published file has changed"
        )
    flush(part)
    part.replace(target)


def _fetch(url: str, part: Path) -> None:
    """Download what `part` lacks of `url`."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "p_rnn"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)
    log.info("downloading %s from byte %d", url, have)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise
        # The server has nothing beyond our bytes: the checksum tells whether they are complete.
        return
    with response:
        start = 0
        if response.status == 206:  # Partial Content; 200 sends the whole file again
            sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            start = int(sent[1]) if sent else -1
            if start != have:
                raise OSError(f"the server did not send the bytes from {have} on")
        length = response.headers.get("Content-Length")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            shutil.copyfileobj(response, file, BLOCK_BYTES)
            end = file.tell()
    if length is not None and end < start + int(length):
        raise OSError(f"the connection was closed at byte {end} of {start + int(length)}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

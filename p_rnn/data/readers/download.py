"""Public archives: fetched with resume, checked, unpacked; never half there under their name."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from p_rnn.data.readers.files import explained, one_line
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)

BLOCK_BYTES = 2**20
TIMEOUT_S = 60


def fetch_folder(url: str, md5: str, folder: Path) -> None:
    """Downloads a zip whose top folder is called like `folder`, and unpacks it there.

    The zip is removed afterwards. A download that broke off goes on at the next call.

    Raises:
        UserError: no connection, a wrong checksum, or a zip without that folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.parent / url.rsplit("/", 1)[-1]
    download(url, archive, md5)
    unpacking = folder.parent / f".{folder.name}.unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        with explained(str(archive)), zipfile.ZipFile(archive) as content:
            content.extractall(unpacking)
        if not (unpacking / folder.name).is_dir():
            raise UserError(f"{archive} has no folder '{folder.name}'; unpack it by hand")
        (unpacking / folder.name).rename(folder)
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    archive.unlink()


def download(url: str, target: Path, md5: str) -> None:
    """Fetches `url` into the file `target`, by way of `<target>.part`.

    A `.part` left by an earlier call is continued where the server allows it (HTTP Range), and
    started anew where not.

    Raises:
        UserError: no connection or one that broke off (the `.part` stays, run again to go on), or
            a wrong checksum (the `.part` is removed).
    """
    if target.exists() and _md5(target) == md5:
        return
    part = target.with_name(target.name + ".part")
    try:
        _fetch(url, part)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise UserError(
            f"cannot download {url} ({one_line(error)}); run again to go on, "
            f"or get it by other means and put it at {target}"
        ) from None
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url} has the MD5 checksum {found} instead of {md5} and was removed; run again, "
            "and if that repeats, the published file has changed"
        )
    part.replace(target)


def _fetch(url: str, part: Path) -> None:
    """Brings `part` to the full length of `url`."""
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
        # Nothing lies beyond what we have: it is complete or garbage, as the checksum will tell.
        return
    with response:
        start = 0
        if response.status == 206:  # Partial Content; 200 sends the whole file again
            sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            start = int(sent[1]) if sent else -1
            if start != have:
                raise OSError(f"the server sent another part than bytes {have}-")
        length = response.headers.get("Content-Length")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            shutil.copyfileobj(response, file, BLOCK_BYTES)
            end = file.tell()
    if length is not None and end < start + int(length):
        raise OSError(f"the connection broke off at byte {end} of {start + int(length)}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

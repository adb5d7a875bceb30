"""Prepared folders as older versions wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from p_rnn.data.checksums import FILES, MANIFEST, OWN


def without_checksums(folder: Path) -> None:
    """Take the checksums out of the manifest of a folder."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest[FILES], manifest[OWN]
    path.write_text(json.dumps(manifest))

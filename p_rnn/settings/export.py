"""Settings of the command `export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from omegaconf import MISSING

from p_rnn.settings.declare import number, setting

# ruff: noqa: UP045  (OmegaConf reads Optional on every Python that we support)


@dataclass
class ExportConfig:
    """Settings of `export`."""

    checkpoint: str = setting(MISSING, "a best.pt or final.pt")
    output: str = setting(MISSING, "folder")
    formats: list[str] = setting(
        lambda: ["vectors"], "vectors, onnx, projector (of TensorBoard), or several"
    )
    max_items: Optional[int] = number(
        None, "projector: only the most popular items; null: 20000", low=1
    )
    overwrite: bool = setting(False, "write into a folder that has other files; they stay")
    num_threads: Optional[int] = number(None, "of the CPU; null: PyTorch's choice", low=1)
    prepared: Optional[str] = setting(None, "paths.prepared, where the data have moved since")

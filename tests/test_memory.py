"""What is free: of the machine, and of the control groups that the process is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from p_rnn import memory
from p_rnn.settings.errors import UserError

MIB = 2**20


def group(folder: Path, limit: str, used: int, cached: int, version: int) -> None:
    names, prefix = ("memory.max", "memory.current"), ""
    if version == 1:
        names, prefix = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    stat = f"{prefix}inactive_file {cached // 2}\n{prefix}active_file {cached - cached // 2}\n"
    (folder / "memory.stat").write_text(stat)


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_above_the_own_one_counts_too(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "memory" if version == 1 else tmp_path
    group(top / "slurm", str(100 * MIB), 90 * MIB, 20 * MIB, version)  # 30 MiB are left
    group(top / "slurm" / "job", "max" if version == 2 else str(2**62), 0, 0, version)
    own = tmp_path / "own"
    own.write_text(f"4:{'memory' if version == 1 else ''}:/slurm/job\n1:cpu:/\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", own)
    assert memory._of_group() == 30 * MIB
    assert memory.available() <= 30 * MIB
    own.unlink()
    assert memory._of_group() == float("inf")


def test_the_machine_has_some_memory() -> None:
    assert 10 * MIB < memory.available() < 2**50


def test_the_line_names_the_parts_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 3.0 * 2**30)
    memory.require({"weights": 2.0 * 2**30, "scores": 2.0**30}, "lower x")
    with pytest.raises(UserError) as refused:
        memory.require({"weights": 2.0 * 2**40, "scores": 2.0**39, "rest": 5.0}, "lower x")
    assert str(refused.value) == (
        "not enough memory: weights 2.0 TiB, scores 512 GiB; 3.0 GiB are free; lower x"
    )

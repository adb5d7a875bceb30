"""What a run sets for its process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

# 1e-30 * 1e-10 is 1e-40, which float32 holds as a denormal; a comparison with 0 could not tell,
# as it takes denormals for zero too.
SCRIPT = """if True:
    import torch
    from p_rnn.runs.runtime import use_device
    if {use}:
        use_device("cpu", 4)
    else:
        torch.set_num_threads(4)
    x = torch.full((2**20,), 1e-30)  # enough for all threads
    print(torch.get_num_threads(), (x * 1e-10).view(torch.int32).count_nonzero().item())
"""


@pytest.fixture
def flushes() -> bool:
    """Whether this processor can take denormals for zero."""
    able = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    return able


@pytest.mark.parametrize("use", [False, True])
def test_denormals_are_zero_in_all_threads(use: bool, flushes: bool) -> None:
    if not flushes:
        pytest.skip("this processor cannot take denormals for zero")
    environment = {key: x for key, x in os.environ.items() if not key.startswith("OMP_")}
    command = [sys.executable, "-c", SCRIPT.format(use=use)]
    said = subprocess.check_output(command, env=environment, text=True)
    assert said.split() == ["4", "0" if use else str(2**20)]

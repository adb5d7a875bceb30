"""K processes as torchrun starts them, forked from a server that has imported PyTorch."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from p_rnn import distributed
from tests.running import start_server

LIMIT_S = 120


def in_ranks(ranks: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """What `work(*given)` returns in each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        context: Any = start_server()
        files = [Path(place) / f"{rank}.pt" for rank in range(ranks)]
        processes = []
        for rank, file in enumerate(files):
            variables = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": ranks,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            process = context.Process(target=_run, args=(variables, file, work, given))
            process.start()
            processes.append(process)
        for process in processes:
            process.join(LIMIT_S)
            if process.exitcode is None:
                process.kill()
        assert [process.exitcode for process in processes] == [0] * ranks
        return [torch.load(file, weights_only=False) for file in files]


def _run(variables: dict[str, Any], file: Path, work: Callable[..., Any], given: Any) -> None:
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    torch.save(work(*given), file)
    if distributed.joined():
        torch.distributed.destroy_process_group()

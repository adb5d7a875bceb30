"""A file of TensorBoard's events, written in this thread.

The writer of torch.utils.tensorboard writes in a thread of its own, where an error, such as a full
disk, is a traceback on the terminal and reaches the run late or never.
"""

from __future__ import annotations

import itertools
import os
import platform
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from p_rnn.files import full_disk_named

FLUSH_S = 30  # seconds until a point can be seen
_numbers = itertools.count()  # of the files of this process


class EventFile:
    """An event file in `folder`, which TensorBoard finds by its name.

    Raises:
        FullDisk: here, and by both methods.
    """

    def __init__(self, folder: Path) -> None:
        now = int(time.time())
        name = f"{now:010d}.{platform.node()}.{os.getpid()}.{next(_numbers)}"
        self.path = folder / f"events.out.tfevents.{name}"
        with full_disk_named(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
        self._records = RecordWriter(self._file)
        self._flushed = 0.0
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, summary: Summary, step: int = 0) -> None:
        """Add a summary of a step."""
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event) -> None:
        with full_disk_named(self.path):
            self._records.write(event.SerializeToString())
            if time.monotonic() - self._flushed > FLUSH_S:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        with full_disk_named(self.path):
            self._file.close()

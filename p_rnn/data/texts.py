"""Many short texts in two arrays, as they are stored in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.ragged import offsets_of

Array = NDArray[Any]
ANY_TEXT = "surrogatepass"  # a file with broken characters may have given some of these texts


@dataclass(frozen=True)
class Texts:
    """Text m of M is data[offsets[m]:offsets[m + 1]].

    Attributes:
        data: uint8, UTF-8; `offsets`: int64 [M+1].
    """

    data: Array
    offsets: Array

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        lengths: list[int] = []
        data = bytearray()
        for text in texts:
            encoded = text.encode("utf-8", ANY_TEXT)
            lengths.append(len(encoded))
            data += encoded
        return cls(np.frombuffer(data, dtype=np.uint8), offsets_of(np.array(lengths, np.int64)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, numbers: Sequence[int] | Array) -> list[str]:
        """The texts with these numbers."""
        at = np.asarray(numbers, dtype=np.int64)
        return self._decoded(self.offsets[at], self.offsets[at + 1])

    def all(self) -> list[str]:
        """All M texts."""
        return self._decoded(self.offsets[:-1], self.offsets[1:])

    def then(self, later: Texts) -> Texts:
        """These texts, and after them those of `later`."""
        return Texts(
            np.concatenate([self.data, later.data]),
            np.concatenate([self.offsets, later.offsets[1:] + self.offsets[-1]]),
        )

    def _decoded(self, starts: Array, ends: Array) -> list[str]:
        view = memoryview(self.data)  # type: ignore[arg-type]  # NumPy's stubs before 2.1
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return [str(view[low:high], "utf-8", ANY_TEXT) for low, high in pairs]

"""Random numbers from streams keyed by (seed, component, epoch).

Adding a component does not change the numbers of the others, and a resumed run draws what the
uninterrupted run would have drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

GLOBAL, GLOBAL_CUDA = "torch", "torch.cuda"  # PyTorch's own generators


def _key(seed: int, name: str, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes 63 bits


class Streams:
    """The generators of a run, one per component name."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.generators: dict[str, torch.Generator] = {}
        self.epoch = 0

    def initial(self, name: str) -> torch.Generator:
        """For initial weights: always on the CPU, so that all devices start from the same."""
        return torch.Generator().manual_seed(_key(self.seed, f"init/{name}", 0))

    def running(self, name: str) -> torch.Generator:
        """For dropout and negatives: on the device, reseeded by `start_epoch`."""
        if name not in self.generators:
            generator = torch.Generator(device=self.device)
            self.generators[name] = generator.manual_seed(_key(self.seed, name, 0))
        return self.generators[name]

    def seed_torch(self, name: str) -> None:
        """Seed PyTorch's global generators, for modules that take no generator."""
        torch.manual_seed(_key(self.seed, f"torch/{name}", self.epoch))

    def order(self, name: str) -> np.random.Generator:
        """For the order of an epoch's mini-batches: on the CPU, the same on every device."""
        return np.random.default_rng(_key(self.seed, name, self.epoch))

    def start_epoch(self, epoch: int) -> None:
        """Seed every running generator for this epoch."""
        self.epoch = epoch
        for name, generator in self.generators.items():
            generator.manual_seed(_key(self.seed, name, epoch))
        self.seed_torch("epoch")

    def state(self) -> dict[str, torch.Tensor]:
        """Where every running generator is, and PyTorch's own, inside an epoch."""
        found = {name: generator.get_state() for name, generator in self.generators.items()}
        found[GLOBAL] = torch.get_rng_state()
        if self.device.type == "cuda":
            found[GLOBAL_CUDA] = torch.cuda.get_rng_state(self.device)
        return found

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """The inverse of `state`; on another kind of device the numbers differ anyway."""
        if (GLOBAL_CUDA in state) != (self.device.type == "cuda"):
            return
        for name, generator in self.generators.items():
            if name in state:
                generator.set_state(state[name])
        torch.set_rng_state(state[GLOBAL])
        if GLOBAL_CUDA in state:
            torch.cuda.set_rng_state(state[GLOBAL_CUDA], self.device)

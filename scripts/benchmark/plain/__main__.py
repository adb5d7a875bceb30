"""The worker process of the textbook step and of the floors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .serving import LEARNED, Repeated, Spec, Work, serve, timed
from .textbook import STEPS, Textbook, draw_steps


def training_floor(B: int, C: int, H: int, device: str) -> Callable[[int], None]:
    """Only the matrix products of a step, into preallocated results."""
    x, h, a, u, dx = (torch.randn(B, n, device=device) for n in (H, H, 3 * H, 3 * H, H))
    W, U, dW = (torch.randn(H, 3 * H, device=device) for _ in range(3))
    rows, drows = torch.randn(C, H, device=device), torch.randn(C, H, device=device)
    scores, dh = torch.randn(B, C, device=device), torch.randn(B, H, device=device)

    def step(t: int) -> None:
        torch.mm(x, W, out=a)
        torch.mm(h, U, out=u)
        torch.mm(h, rows.t(), out=scores)
        torch.mm(scores, rows, out=dh)
        torch.mm(scores.t(), h, out=drows)
        torch.mm(h.t(), u, out=dW)  # of U
        torch.mm(x.t(), a, out=dW)
        torch.mm(a, W.t(), out=dx)

    return step


def ranking_floor(B: int, N: int, H: int, block: int, device: str) -> Callable[[int], None]:
    """The scores of B targets for all items, block by block into the same memory."""
    h, rows = torch.randn(B, H, device=device), torch.rand(N, H, device=device)
    whole, last = (torch.empty(B, n, device=device) for n in (block, N % block or block))

    def product(t: int) -> None:
        for low in range(0, N, block):
            part = rows[low : low + block]
            torch.mm(h, part.t(), out=whole if len(part) == block else last)

    return product


def make(spec: Spec) -> Work:
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    B, H, N, device = spec.batch_size, spec.hidden_size, spec.num_items, spec.device
    if spec.work == "training floor":
        run = training_floor(B, B + spec.num_negatives, H, device)
        return Repeated(run, B, spec.seconds)
    if spec.work == "ranking floor":
        return fastest_ranking_floor(spec)
    steps = draw_steps(spec)
    textbook = Textbook(N, H, spec.loss, B).to_device(device)

    def step(t: int) -> None:
        textbook.step(**{name: x[t % STEPS] for name, x in steps.items()})

    for t in range(LEARNED // B):
        step(t)
    return Repeated(step, B, spec.seconds)


def fastest_ranking_floor(spec: Spec) -> Work:
    """The ranking floor with the fastest of a few block sizes, tried on a part of the catalogue."""
    few = min(spec.num_items, 2**15)
    sizes = [(b, n) for b in (512, 1024) for n in (512, 4096, 2**15)]

    def speed(size: tuple[int, int]) -> float:
        run = ranking_floor(size[0], few, spec.hidden_size, min(size[1], few), spec.device)
        timed(run, 1)
        return size[0] / timed(run, 2)

    B, block = max(sizes, key=speed)
    run = ranking_floor(B, spec.num_items, spec.hidden_size, block, spec.device)
    return Repeated(run, B, spec.seconds)


if __name__ == "__main__":
    serve(make)

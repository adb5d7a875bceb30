"""Item features as tensors: the dense vectors and the bags of tokens of some items.

One object per feature serves all inputs and outputs of a network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from p_rnn.data.features import BagFeature, DenseFeature

# Dense features are moved to the GPU if they take at most this share of its free memory.
SHARE_OF_DEVICE = 0.5


class DenseRows(nn.Module):
    """The dense vector phi of an item, read from a memory-mapped file or from GPU memory."""

    def __init__(self, feature: DenseFeature, device: torch.device) -> None:
        super().__init__()
        self.name = feature.name
        values = torch.from_numpy(feature.values)  # [N, D], no copy
        fits = True
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            fits = values.nbytes <= SHARE_OF_DEVICE * free
        self.values = values.to(device) if fits else values
        self.num_items, self.width = values.shape

    def __deepcopy__(self, memo: dict[int, object]) -> DenseRows:
        return self  # has no parameters, and may be larger than memory

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D], as stored: float16 or float32."""
        # Sync point if the values are in main memory: the CPU waits for the item indices.
        rows = self.values.index_select(0, items.to(self.values.device))
        return rows.to(items.device)


class Bags(nn.Module):
    """The bag of tokens of an item, padded to the length of the longest.

    So shapes do not depend on the data. The padding token is `num_tokens`, with the weight zero.

    Attributes:
        name: of the feature.
        offsets: int64 [N + 1]; `tokens`: int64 [nnz + 1]; `weights`: [nnz + 1]; with
            pooling_mode=mean they sum to 1 in each bag.
    """

    tokens: Tensor
    offsets: Tensor
    weights: Tensor

    def __init__(self, feature: BagFeature, pooling_mode: str, device: torch.device) -> None:
        super().__init__()
        self.name = feature.name
        self.num_items, self.num_tokens = len(feature.offsets) - 1, feature.num_tokens
        lengths = torch.from_numpy(feature.offsets).diff()
        self.longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        tokens = torch.from_numpy(feature.tokens).long()
        weights = torch.ones(len(tokens))
        if feature.weights is not None:
            weights = torch.from_numpy(feature.weights).to(torch.float32, copy=True)
        if pooling_mode == "mean":
            item = torch.repeat_interleave(lengths)
            weights /= torch.zeros(len(lengths)).index_add_(0, item, weights)[item]
        padding = torch.tensor([feature.num_tokens])
        self.register_buffer("tokens", torch.cat([tokens, padding]).to(device), persistent=False)
        nothing = torch.cat([weights, torch.zeros(1)]).to(device)
        self.register_buffer("weights", nothing, persistent=False)
        offsets = torch.from_numpy(feature.offsets).to(device, copy=True)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B] -> tokens int64 [B, V], their weights [B, V], and which are no padding, bool."""
        start, end = self.offsets[items, None], self.offsets[items + 1, None]
        at = start + torch.arange(self.longest, device=items.device)  # [B, V]
        there = at < end
        at = torch.where(there, at, len(self.tokens) - 1)
        return self.tokens[at], self.weights[at], there


FeatureRows = DenseRows | Bags
Read = dict[FeatureRows, Any]  # what was read of some items, by feature


def read_once(feature: FeatureRows, items: Tensor, read: Read | None) -> Any:
    """`feature(items)`, taken from `read` if it is there: K matrices read the same candidates."""
    if read is None:
        return feature(items)
    if feature not in read:
        read[feature] = feature(items)
    return read[feature]

"""A network that does not use all of its layers on every batch."""

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """Rows go to one of two networks, by the sign of their first number."""

    def __init__(self) -> None:
        super().__init__()
        self.expert = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, to = torch.zeros_like(x), x[..., 0] > 0
        for k, expert in enumerate(self.expert):
            rows = to == bool(k)
            if rows.any():
                y[rows] = expert(x[rows])
        return self.head(y).sum(1)

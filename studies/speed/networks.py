"""Networks that speed is measured on, in the shapes of those that everybody has."""

import torch.nn.functional as F
from torch import Tensor, nn


class MeanOverTokens(nn.Module):
    """The mean over tokens: ``[N, T, d]`` in, ``[N, d]`` out."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, as in ResNet-18."""

    def __init__(self, d_in: int, d_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(d_in, d_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(d_out)
        self.conv2 = nn.Conv2d(d_out, d_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(d_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or d_in != d_out:
            conv = nn.Conv2d(d_in, d_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(d_out))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet18(width: int, classes: int) -> nn.Sequential:
    """For small images: a first convolution of 3 x 3, and no pooling behind it."""
    first = nn.Conv2d(3, width, 3, padding=1, bias=False)
    blocks, d_in = list[nn.Module](), width
    for stage in range(4):
        for k in range(2):
            d_out, stride = width * 2**stage, 2 if stage and not k else 1
            blocks.append(ResidualBlock(d_in, d_out, stride))
            d_in = d_out
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(d_in, classes))
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), *blocks, *pool)


class InvertedResidual(nn.Module):
    """More channels, one by one over positions, and fewer again, as in EfficientNet."""

    def __init__(self, d_in: int, d_out: int, stride: int) -> None:
        super().__init__()
        d = 6 * d_in
        kinds = (
            nn.Conv2d(d_in, d, 1, bias=False),
            nn.Conv2d(d, d, 3, stride, padding=1, groups=d, bias=False),
            nn.Conv2d(d, d_out, 1, bias=False),
        )
        first, over, last = (nn.Sequential(c, nn.BatchNorm2d(c.out_channels)) for c in kinds)
        self.body = nn.Sequential(first, nn.SiLU(), over, nn.SiLU(), last)
        self.adds = stride == 1 and d_in == d_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def efficient(classes: int) -> nn.Sequential:
    """Sixteen blocks in the widths of EfficientNet-B0, for small images."""
    stages = ((16, 1, 1), (24, 2, 1), (40, 2, 2), (80, 3, 2), (112, 3, 1), (192, 4, 2), (320, 1, 1))
    blocks, d_in = list[nn.Module](), 32
    for d_out, repeats, stride in stages:
        for k in range(repeats):
            blocks.append(InvertedResidual(d_in, d_out, stride if k == 0 else 1))
            d_in = d_out
    first = (nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.SiLU())
    return nn.Sequential(
        *first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(320, classes)
    )


class TransformerBlock(nn.Module):
    """Causal attention out of Linear layers, and two more."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (
            f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class LanguageModel(nn.Module):
    """Tokens [N, T] to logits of the next one, [N, T, words]."""

    def __init__(self, d: int, blocks: int, words: int, length: int) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(words, d), nn.Embedding(length, d)
        self.blocks = nn.Sequential(*(TransformerBlock(d, heads=4) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, words)

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        x = self.embedding(tokens) + self.position.weight[:T]
        return self.head(self.norm(self.blocks(x)))

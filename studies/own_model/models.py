"""Two networks as one meets them, untrained, with a little data: layers of up to 66,000 numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek


class Block(nn.Module):
    """Attention and a perceptron, each beside an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, width] to [N, T, width]; a position sees those before it."""
        N, T, width = x.shape
        parts = self.qkv(self.before(x)).reshape(N, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        later = torch.ones(T, T, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        x = x + self.proj(mixed.transpose(1, 2).reshape(N, T, width))
        hidden: Tensor = F.gelu(self.up(self.between(x)))
        return x + self.down(hidden)


class GPT(nn.Module):
    """A small GPT: 1,065,344 parameters as it is by default."""

    def __init__(
        self, vocabulary: int = 256, width: int = 128, blocks: int = 5, length: int = 64
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, T] to [N, T, vocabulary]."""
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


class Residual(nn.Module):
    """Two convolutions beside an identity, or beside a strided convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        self.beside = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] to [N, outputs, h / stride, w / stride]."""
        h = self.norms[1](self.two(self.norms[0](self.one(x)).relu()))
        added: Tensor = (h + self.beside(x)).relu()
        return added


class ResNet(nn.Module):
    """A small ResNet, one of its convolutions in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stages = nn.Sequential(Residual(8, 8, 1, 1), Residual(8, 16, 2, 4))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, h, w] to [N, 5]."""
        logits: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return logits


def transformer(samples: int = 16, length: int = 64, model: GPT | None = None) -> ek.Problem:
    """The next token, by the empirical Fisher, in two batches of different sizes."""
    torch.manual_seed(0)
    model = (model or GPT(length=length)).eval()
    tokens = torch.randint(0, model.tokens.num_embeddings, (samples, length + 1))
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    layers = tuple(name for name, m in model.named_modules() if isinstance(m, nn.Linear))
    return ek.Problem(model, _uneven(x, y), ek.Categorical(), ek.Empirical(), layers=layers)


def resnet(samples: int = 8, size: int = 8, dtype: torch.dtype = torch.float32) -> ek.Problem:
    """Five classes, by the exact Fisher, in two batches of different sizes."""
    torch.manual_seed(0)
    model = ResNet().to(dtype).eval()
    x, y = torch.randn(samples, 3, size, size, dtype=dtype), torch.randint(0, 5, (samples,))
    kinds = (nn.Linear, nn.Conv2d)
    layers = tuple(name for name, m in model.named_modules() if isinstance(m, kinds))
    return ek.Problem(model, _uneven(x, y), ek.Categorical(), layers=layers)


def _uneven(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    first = len(x) * 5 // 8
    return [(x[:first], y[:first]), (x[first:], y[first:])]

"""torchvision's networks, as narrow as they can be made."""

from functools import partial

import torch
from torch import Tensor
from torchvision import models as tv
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import Bottleneck

from tests_models.architectures import Architecture


def images(size: int = 16) -> tuple[Tensor, Tensor]:
    """Three of them, and their classes."""
    return torch.randn(3, 3, size, size).double(), torch.tensor([0, 2, 1])


def of_images(build: object, size: int = 16) -> Architecture:
    """Whose outputs are logits as they are."""
    return Architecture(build, partial(images, size), outputs=lambda f: f)  # type: ignore[arg-type]


def mobilenet() -> torch.nn.Module:
    bottleneck = partial(InvertedResidualConfig, width_mult=0.25)
    settings = [
        bottleneck(16, 3, 16, 16, True, "RE", 2, 1),
        bottleneck(16, 5, 32, 24, True, "HS", 1, 1),
    ]
    return tv.MobileNetV3(settings, last_channel=8, num_classes=3)


def efficientnet() -> torch.nn.Module:
    block = partial(MBConvConfig, width_mult=0.25, depth_mult=0.5)
    settings = [block(1, 3, 1, 16, 16, 1), block(2, 5, 2, 16, 24, 2)]
    return tv.EfficientNet(settings, dropout=0.2, last_channel=8, num_classes=3)


def regnet() -> torch.nn.Module:
    settings = BlockParams([1, 1], [8, 8], [4, 4], [1.0, 1.0], [2, 2], 0.25)
    return tv.RegNet(settings, num_classes=3, stem_width=4)


VISION: dict[str, Architecture] = {
    "torchvision ResNet": of_images(
        lambda: tv.ResNet(Bottleneck, [1, 1, 1, 1], num_classes=3, width_per_group=2), 32
    ),
    "torchvision ResNeXt": of_images(
        lambda: tv.ResNet(Bottleneck, [1, 1, 1, 1], num_classes=3, groups=2, width_per_group=2), 32
    ),
    "DenseNet": of_images(
        lambda: tv.DenseNet(4, (2, 1), num_init_features=4, bn_size=2, num_classes=3), 32
    ),
    "MobileNetV2": of_images(
        lambda: tv.MobileNetV2(
            num_classes=3, width_mult=0.25, inverted_residual_setting=[[1, 8, 1, 1], [2, 8, 2, 2]]
        )
    ),
    "MobileNetV3": of_images(mobilenet),
    "EfficientNet": of_images(efficientnet),
    "ShuffleNetV2": of_images(
        lambda: tv.ShuffleNetV2([1, 1, 1], [4, 8, 8, 16, 16], num_classes=3), 32
    ),
    "RegNet": of_images(regnet),
    "VisionTransformer": of_images(
        lambda: tv.VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=3), 8
    ),
    "SwinTransformer": of_images(
        lambda: tv.SwinTransformer([2, 2], 4, [1, 1], [1, 2], [4, 4], num_classes=3), 16
    ),
    "torchvision ConvNeXt": of_images(
        lambda: tv.ConvNeXt([CNBlockConfig(4, 8, 1), CNBlockConfig(8, None, 1)], num_classes=3)
    ),
}

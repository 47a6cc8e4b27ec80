"""The two networks: tanh layers with Glorot's initialisation.

The autoencoder is that of Hinton & Salakhutdinov 2006 (784-1000-500-250-30 and back, linear code),
on which George et al. 2018 compare optimizers, scaled to images of 8 x 8 pixels. torch's default
initialisation is not used: its weights are so small that a tanh network this deep first spends
hundreds of steps of SGD at the loss of the mean image, which would flatter everything else.
"""

from itertools import pairwise

from torch import nn

AUTOENCODER = (64, 96, 48, 24, 8, 24, 48, 96, 64)
CLASSIFIER = (64, 32, 16, 10)


def autoencoder() -> nn.Sequential:
    """64-96-48-24-8-24-48-96-64, the code linear; one logit per pixel comes out."""
    return _dense(AUTOENCODER, linear=(AUTOENCODER.index(8),))


def classifier() -> nn.Sequential:
    """64-32-16-10; one logit per class comes out."""
    return _dense(CLASSIFIER, linear=())


def _dense(widths: tuple[int, ...], linear: tuple[int, ...]) -> nn.Sequential:
    """Tanh after every layer but the last and those that end at the widths numbered ``linear``."""
    model = nn.Sequential()
    last = len(widths) - 1
    for number, (d_in, d_out) in enumerate(pairwise(widths), start=1):
        layer = nn.Linear(d_in, d_out)
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        model.add_module(f"linear{number}", layer)
        if number != last and number not in linear:
            model.add_module(f"tanh{number}", nn.Tanh())
    return model

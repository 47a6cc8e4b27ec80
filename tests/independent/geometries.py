"""Layers in every awkward geometry, each with the shape of one input sample.

Strides, dilations, paddings and kernels differ from each other and from axis to axis, and sizes
leave a remainder, since equal ones hide mistakes.
"""

from collections.abc import Callable

from torch import nn

Geometry = tuple[nn.Module, tuple[int, ...]]

GEOMETRIES: dict[str, Callable[[], Geometry]] = {
    "linear": lambda: (nn.Linear(3, 4), (3,)),
    "linear_without_bias": lambda: (nn.Linear(4, 3, bias=False), (4,)),
    "linear_one_input": lambda: (nn.Linear(1, 3), (1,)),
    "linear_one_output": lambda: (nn.Linear(3, 1), (3,)),
    "linear_one_leading_axis": lambda: (nn.Linear(3, 2), (4, 3)),
    "linear_two_leading_axes": lambda: (nn.Linear(3, 2), (2, 3, 3)),
    "conv1d": lambda: (nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=3), (2, 10)),
    "conv1d_remainder": lambda: (nn.Conv1d(2, 3, 2, stride=3), (2, 7)),
    "conv1d_without_bias": lambda: (nn.Conv1d(2, 3, 2, padding=1, bias=False), (2, 4)),
    "conv1d_valid": lambda: (nn.Conv1d(2, 3, 3, padding="valid", dilation=2), (2, 6)),
    "conv1d_same_even": lambda: (nn.Conv1d(2, 3, 4, padding="same"), (2, 5)),
    "conv1d_same_even_dilated": lambda: (nn.Conv1d(2, 3, 2, padding="same", dilation=3), (2, 5)),
    "conv1d_same_even_circular": lambda: (
        nn.Conv1d(2, 3, 4, padding="same", padding_mode="circular"),
        (2, 5),
    ),
    "conv1d_same_even_reflect": lambda: (
        nn.Conv1d(2, 3, 4, padding="same", padding_mode="reflect"),
        (2, 5),
    ),
    "conv1d_grouped": lambda: (nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2), (4, 6)),
    "conv1d_depthwise": lambda: (nn.Conv1d(3, 6, 2, dilation=2, groups=3, bias=False), (3, 5)),
    "conv1d_circular": lambda: (
        nn.Conv1d(2, 3, 3, stride=2, padding=2, dilation=2, padding_mode="circular"),
        (2, 6),
    ),
    "conv1d_reflect": lambda: (
        nn.Conv1d(2, 3, 3, stride=3, padding=2, padding_mode="reflect"),
        (2, 5),
    ),
    "conv1d_replicate": lambda: (
        nn.Conv1d(2, 3, 3, stride=2, padding=3, padding_mode="replicate"),
        (2, 4),
    ),
    "conv2d": lambda: (
        nn.Conv2d(2, 3, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(1, 2)),
        (2, 4, 6),
    ),
    "conv2d_without_bias": lambda: (
        nn.Conv2d(1, 2, (1, 3), stride=(2, 1), padding=(1, 0), bias=False),
        (1, 4, 4),
    ),
    "conv2d_pointwise": lambda: (nn.Conv2d(3, 2, 1, stride=2), (3, 3, 2)),
    "conv2d_grouped": lambda: (
        nn.Conv2d(4, 6, (2, 3), stride=(1, 2), padding=(0, 1), groups=2),
        (4, 3, 4),
    ),
    "conv2d_depthwise": lambda: (
        nn.Conv2d(2, 4, (3, 2), padding=(1, 2), dilation=(2, 1), groups=2),
        (2, 4, 2),
    ),
    "conv2d_same_even": lambda: (
        nn.Conv2d(2, 2, (2, 3), padding="same", dilation=(3, 1)),
        (2, 4, 3),
    ),
    "conv2d_circular": lambda: (
        nn.Conv2d(2, 2, (3, 2), stride=(2, 1), padding=(2, 1), padding_mode="circular"),
        (2, 3, 4),
    ),
    "conv2d_reflect_grouped": lambda: (
        nn.Conv2d(2, 4, (2, 3), padding=(1, 2), groups=2, padding_mode="reflect"),
        (2, 3, 3),
    ),
    "conv2d_replicate": lambda: (
        nn.Conv2d(1, 2, (2, 3), stride=(3, 2), padding=(2, 1), padding_mode="replicate"),
        (1, 3, 4),
    ),
    "conv3d": lambda: (
        nn.Conv3d(2, 2, (2, 1, 3), stride=(1, 2, 3), padding=(1, 0, 2), dilation=(2, 1, 1)),
        (2, 3, 3, 4),
    ),
    "conv3d_same_even_grouped": lambda: (
        nn.Conv3d(2, 4, (2, 1, 4), padding="same", groups=2),
        (2, 2, 2, 3),
    ),
    "conv3d_circular": lambda: (
        nn.Conv3d(1, 2, (1, 2, 3), padding=(0, 1, 2), padding_mode="circular", bias=False),
        (1, 2, 2, 3),
    ),
    "conv_transpose1d": lambda: (
        nn.ConvTranspose1d(2, 3, 3, stride=3, padding=2, output_padding=1, dilation=2),
        (2, 3),
    ),
    "conv_transpose1d_padded_by_dilation": lambda: (
        nn.ConvTranspose1d(2, 3, 2, stride=1, output_padding=2, dilation=3),
        (2, 3),
    ),
    "conv_transpose1d_grouped": lambda: (
        nn.ConvTranspose1d(4, 6, 2, stride=2, padding=1, groups=2),
        (4, 3),
    ),
    "conv_transpose2d": lambda: (
        nn.ConvTranspose2d(
            2, 3, (2, 3), stride=(3, 2), padding=(1, 2), output_padding=(2, 1), dilation=(1, 2)
        ),
        (2, 2, 3),
    ),
    "conv_transpose2d_grouped": lambda: (
        nn.ConvTranspose2d(4, 2, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=False),
        (4, 2, 2),
    ),
    "conv_transpose2d_depthwise": lambda: (
        nn.ConvTranspose2d(2, 6, (1, 2), stride=(1, 3), output_padding=(0, 2), groups=2),
        (2, 2, 2),
    ),
    "conv_transpose3d": lambda: (
        nn.ConvTranspose3d(
            2,
            2,
            (2, 1, 3),
            stride=(1, 2, 3),
            padding=(1, 0, 2),
            output_padding=(0, 1, 2),
            dilation=(2, 1, 1),
        ),
        (2, 2, 2, 2),
    ),
    "conv_transpose3d_grouped": lambda: (
        nn.ConvTranspose3d(2, 4, (1, 2, 2), stride=(2, 1, 1), dilation=(1, 1, 2), groups=2),
        (2, 2, 2, 1),
    ),
}

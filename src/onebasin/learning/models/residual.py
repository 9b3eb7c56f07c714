"""ResNet-20 for small images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad

from onebasin.learning.models.options import ModelError, image_shape, norm_2d, one_of, positive


class ZeroPadShortcut(nn.Module):
    """Shortcut A: take every other pixel and append `extra_channels` channels of zeros. No parameters."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra_channels))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each normalised, added to the shortcut of the input."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, groups: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm_2d(norm, outputs, groups)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm_2d(norm, outputs, groups)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 and shortcut == "A":
            self.shortcut = ZeroPadShortcut(outputs - inputs)
        elif stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm_2d(norm, outputs, groups)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A 3x3 convolution, stages of `blocks` residual blocks, the mean over positions, and a linear layer."""

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int],
        blocks: int,
        norm: str,
        groups: int,
        shortcut: str,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = norm_2d(norm, widths[0], groups)
        self.relu = nn.ReLU()
        stages, inputs = [], widths[0]
        for stage, outputs in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(ResidualBlock(inputs, outputs, stride, norm, groups, shortcut))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.relu(self.norm(self.conv(x))))
        out: Tensor = self.fc(self.flatten(self.mean(x)))
        return out


def resnet20(
    shape: Sequence[int],
    classes: int,
    *,
    norm: str = "batch",
    groups: int = 4,
    width: float = 1.0,
    shortcut: str = "A",
) -> nn.Module:
    """ResNet-20 with 16, 32, 64 channels times `width`: 269,722 parameters on 3x32x32, ten classes, width 1.

    Inputs are images of at least 4x4. Convolutions have no biases and the initialisation of He et al. 2015.
    norm: batch | group.
    groups: number of groups of a group norm. 4 gives 4, 8 and 16 channels per group at width 1, and divides the
    channels of every width that is a multiple of 1/4.
    width: factor on the channels, a multiple of 1/16.
    shortcut: A (zero padding, the paper's choice for CIFAR) | B (1x1 convolution where the size changes).
    Raises ModelError for another shape or an option out of range.
    """
    channels, height, size = image_shape("resnet20", shape)
    one_of("norm", norm, ("batch", "group"))
    one_of("shortcut", shortcut, ("A", "B"))
    positive("groups", groups)
    if min(height, size) < 4:
        raise ModelError(f"resnet20 takes pictures of at least 4x4; this data's are {height}x{size}")
    if isinstance(width, bool) or not isinstance(width, int | float) or 16 * width != int(16 * width) or width <= 0:
        raise ModelError(f"width: {width!r}; expected a multiple of 1/16 above 0, such as 0.5 or 2")
    widths = [int(16 * width) * 2**stage for stage in range(3)]
    return ResNet(channels, classes, widths, 3, norm, groups, shortcut)

"""Convolutional networks for these tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 16 * 5 * 5)
        out: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))
        return out


def vgg(widths: Sequence[int | str], batch_norm: bool = True, classes: int = 10) -> nn.Module:
    """A VGG: numbers are convolutions, "M" is max pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU(inplace=True))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes))


VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def normalised(kind: str, channels: int, side: int) -> nn.Module:
    """A normalisation layer of this kind."""
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.LayerNorm([channels, side, side])
        case "channels":
            return nn.GroupNorm(1, channels)
    return nn.GroupNorm(4, channels)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str, norm: str, side: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = normalised(norm, outputs, side)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = normalised(norm, outputs, side)
        self.shortcut = shortcut if stride != 1 else ""
        self.extra = outputs - inputs
        if self.shortcut == "B":
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.shortcut == "A":
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra))
        elif self.shortcut == "A, both sides":
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra // 2))
        elif self.shortcut == "B":
            x = self.skip(x)
        return F.relu(x + y)


class ResNet20(nn.Module):
    def __init__(self, shortcut: str, norm: str, side: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = normalised(norm, 16, side)
        blocks = []
        inputs = 16
        for stage, outputs in enumerate((16, 32, 64)):
            for number in range(3):
                stride = 2 if stage and not number else 1
                side //= stride
                blocks.append(ResidualBlock(inputs, outputs, stride, shortcut, norm, side))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        out: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


def separable(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Separable(nn.Module):
    """Depthwise-separable convolutions; the last depthwise one makes three channels of each input channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = separable(8, 16)
        self.depthwise = nn.Conv2d(16, 48, 3, groups=16)
        self.fc = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(F.relu(self.depthwise(self.block(self.stem(x)))).mean((2, 3)))
        return out


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excite, projection, and addition of the input."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.squeeze = nn.Conv2d(hidden, hidden // 4, 1)
        self.excite = nn.Conv2d(hidden // 4, hidden, 1)
        self.project = nn.Conv2d(hidden, channels, 1)
        self.norm3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm1(self.expand(x)))
        y = F.silu(self.norm2(self.depthwise(y)))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        out: Tensor = x + self.norm3(self.project(y))
        return out


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = InvertedResidual(8, 4)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.block(self.stem(x)).mean((-1, -2)))
        return out


class Grouped(nn.Module):
    """Grouped convolutions and group normalisation, in groups of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.norm1 = nn.GroupNorm(4, 32)
        self.conv2 = nn.Conv2d(32, 64, 3, groups=8)
        self.norm2 = nn.GroupNorm(8, 64)
        self.conv3 = nn.Conv2d(64, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        out: Tensor = self.fc(F.relu(self.conv3(x)).mean((2, 3)))
        return out


class DenseNet(nn.Module):
    def __init__(self, norm: str = "batch") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.layers = nn.ModuleList()
        channels = 16
        for _ in range(3):
            conv = nn.Conv2d(channels, 12, 3, padding=1)
            self.layers.append(nn.Sequential(normalised(norm, channels, 0), nn.ReLU(), conv))
            channels += 12
        self.transition = nn.Sequential(normalised(norm, channels, 0), nn.ReLU(), nn.Conv2d(channels, 20, 1))
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        out: Tensor = self.fc(F.avg_pool2d(self.transition(x), 2).mean((2, 3)))
        return out


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

        self.down1, self.down2, self.bottom = block(3, 8), block(8, 12), block(12, 24)
        self.up2, self.up1 = nn.ConvTranspose2d(24, 10, 2, 2), nn.ConvTranspose2d(14, 6, 2, 2, groups=2)
        self.join2, self.join1 = block(22, 14), block(14, 9)
        self.out = nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.join2(torch.cat([self.up2(bottom), second], 1))
        out: Tensor = self.out(self.join1(torch.cat([first, self.up1(second)], 1)))
        return out


class ShuffleNet(nn.Module):
    """Grouped convolutions with a channel shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.conv1 = nn.Conv2d(16, 32, 1, groups=2)
        self.conv2 = nn.Conv2d(32, 16, 1, groups=2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(F.relu(self.stem(x))))
        n, channels, height, width = x.shape
        x = x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)
        out: Tensor = self.fc(F.relu(self.conv2(x)).mean((2, 3)))
        return out

"""Convolutional networks without residual connections: LeNet5, CNN4, CONV-2/4/6, VGG16, and one for motion signals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from onebasin.learning.models.options import ModelError, image_shape, norm_2d, one_of, positive


def lenet5(shape: Sequence[int], classes: int, *, width: int = 1) -> nn.Module:
    """LeNet5 (LeCun et al. 1998) with ReLU and max pooling.

    For ten classes it has 61,706 parameters on 1x28x28, 62,006 on 3x32x32. Inputs are 28x28 or 32x32 images
    [n, channels, height, width]; the first convolution pads 28x28 to 32x32.
    width: factor on the numbers of channels and neurons of the hidden layers.
    Raises ModelError for another shape or an option out of range.
    """
    channels, height, wide = image_shape("lenet5", shape)
    if (height, wide) not in ((28, 28), (32, 32)):
        raise ModelError(f"lenet5 takes 28x28 or 32x32 pictures; this data's are {height}x{wide}")
    conv1, conv2, fc1, fc2 = (positive("width", width) * size for size in (6, 16, 120, 84))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, conv1, 5, padding=(32 - height) // 2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(conv1, conv2, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(25 * conv2, fc1),
            relu3=nn.ReLU(),
            fc2=nn.Linear(fc1, fc2),
            relu4=nn.ReLU(),
            fc3=nn.Linear(fc2, classes),
        )
    )


def cnn4(shape: Sequence[int], classes: int, *, norm: str = "batch", groups: int = 4) -> nn.Module:
    """FedMRN's four-layer network (Li et al. 2024): 390,880 parameters on 1x28x28, ten classes.

    Four blocks of 3x3 convolution, normalisation, ReLU and 2x2 max pooling, with 32, 64, 128, 256 channels; then one
    linear layer. No biases, as in the authors' code. Weights have PyTorch's default initialisation, which also trains
    with norm="none" (the authors': normal, deviation 0.01). Inputs are images of at least 16x16.
    norm: batch | group | none.
    groups: number of groups of a group norm.
    Raises ModelError for another shape or an option out of range.
    """
    channels, height, width = image_shape("cnn4", shape)
    one_of("norm", norm, ("batch", "group", "none"))
    positive("groups", groups)
    if min(height, width) < 16:
        raise ModelError(f"cnn4 takes pictures of at least 16x16; this data's are {height}x{width}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, size in enumerate((32, 64, 128, 256), start=1):
        layers[f"conv{index}"] = nn.Conv2d(channels, size, 3, padding=1, bias=False)
        if norm != "none":
            layers[f"norm{index}"] = norm_2d(norm, size, groups)
        layers[f"relu{index}"] = nn.ReLU()
        layers[f"pool{index}"] = nn.MaxPool2d(2)
        channels, height, width = size, height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * height * width, classes, bias=False)
    return nn.Sequential(layers)


def conv_n(shape: Sequence[int], classes: int, *, pairs: int, bias: bool = True) -> nn.Module:
    """CONV-2, -4, -6 of Frankle and Carbin 2019, figure 2: pairs of 3x3 convolutions, then 256-256-classes.

    The pairs have 64, 128, 256 channels, each followed by 2x2 max pooling. Weights are Glorot normal, biases zero. For
    ten classes CONV-6 has 2,262,602 parameters on 3x32x32 (2,261,184 without biases), CONV-4 1,933,258 on 1x28x28
    (1,932,352 without).
    pairs: 1, 2 or 3 pairs of convolutions.
    bias: whether layers have biases; supermask papers leave them out.
    Raises ModelError for images smaller than 2**pairs.
    """
    name = f"conv{2 * pairs}"
    channels, height, width = image_shape(name, shape)
    if min(height, width) < 2**pairs:
        raise ModelError(f"{name} takes pictures of at least {2**pairs}x{2**pairs}; this data's are {height}x{width}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for pair in range(pairs):
        size = 64 * 2**pair
        for index in (2 * pair + 1, 2 * pair + 2):
            layers[f"conv{index}"] = nn.Conv2d(channels, size, 3, padding=1, bias=bias)
            layers[f"relu{index}"] = nn.ReLU()
            channels = size
        layers[f"pool{pair + 1}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * height * width, 256, bias=bias)
    layers["relu_fc1"] = nn.ReLU()
    layers["fc2"] = nn.Linear(256, 256, bias=bias)
    layers["relu_fc2"] = nn.ReLU()
    layers["fc3"] = nn.Linear(256, classes, bias=bias)
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)


def conv2(shape: Sequence[int], classes: int, *, bias: bool = True) -> nn.Module:
    """CONV-2: one pair of convolutions. See `conv_n`."""
    return conv_n(shape, classes, pairs=1, bias=bias)


def conv4(shape: Sequence[int], classes: int, *, bias: bool = True) -> nn.Module:
    """CONV-4: two pairs of convolutions. See `conv_n`."""
    return conv_n(shape, classes, pairs=2, bias=bias)


def conv6(shape: Sequence[int], classes: int, *, bias: bool = True) -> nn.Module:
    """CONV-6: three pairs of convolutions. See `conv_n`."""
    return conv_n(shape, classes, pairs=3, bias=bias)


def vgg16(shape: Sequence[int], classes: int, *, norm: str = "group", groups: int = 32) -> nn.Module:
    """VGG16 for small images, as in FedPara: 15,253,578 parameters on 3x32x32, ten classes.

    3x3 convolutions, normalisation, ReLU; 2x2 max pooling after each stage; then 512-512-classes. Inputs are images of
    32x32 to 63x63.
    norm: batch | group | none.
    groups: number of groups of a group norm.
    Raises ModelError for another shape or an option out of range.
    Sources: Simonyan and Zisserman 2015, table 1, D; linear layers from Hyeon-Woo et al. 2022.
    """
    channels, height, width = image_shape("vgg16", shape)
    one_of("norm", norm, ("batch", "group", "none"))
    positive("groups", groups)
    if not 32 <= min(height, width) <= max(height, width) < 64:
        raise ModelError(f"vgg16 takes pictures of 32x32 to 63x63; this data's are {height}x{width}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (size, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for index in range(1, count + 1):
            layers[f"conv{stage}_{index}"] = nn.Conv2d(channels, size, 3, padding=1)
            if norm != "none":
                layers[f"norm{stage}_{index}"] = norm_2d(norm, size, groups)
            layers[f"relu{stage}_{index}"] = nn.ReLU()
            channels = size
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    for index in (1, 2):
        layers[f"fc{index}"] = nn.Linear(512, 512)
        layers[f"relu_fc{index}"] = nn.ReLU()
    layers["fc3"] = nn.Linear(512, classes)
    return nn.Sequential(layers)


def har_cnn(shape: Sequence[int], classes: int, *, width: int = 64) -> nn.Module:
    """1-D convolutional network for motion signals [n, channels, steps]: 28,870 parameters on 9x128, six classes.

    Two blocks of convolution over time (9 steps, then 5), ReLU and max pooling by 4; then one linear layer. Signals
    have at least 16 steps.
    width: number of channels of both convolutions.
    Raises ModelError for another shape or an option out of range.
    """
    if len(shape) != 2 or shape[1] < 16:
        raise ModelError(f"har-cnn takes signals [channels, 16 steps or more]; this data's inputs are {list(shape)}")
    positive("width", width)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv1d(shape[0], width, 9, padding=4),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool1d(4),
            conv2=nn.Conv1d(width, width, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool1d(4),
            flatten=nn.Flatten(),
            fc=nn.Linear(width * (shape[1] // 4 // 4), classes),
        )
    )

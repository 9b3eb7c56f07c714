"""Matching, beside the `rebasin` package; and what a server does with the models of many clients. One thread."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.probes import noise
from onebasin.alignment.responses import Responses
from onebasin.alignment.signatures import decode_signatures, encode_signatures
from onebasin.learning.models.convolutional import lenet5
from onebasin.learning.models.residual import resnet20

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
PICTURE = torch.zeros(2, 3, 32, 32)
CLIENTS = 100


def vgg16() -> nn.Module:
    """14.7 million parameters, with BatchNorm."""
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG16:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 10))


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build().eval()


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _matching()
        _clients()
    finally:
        torch.set_num_threads(before)


def _matching() -> None:
    table = Table(title="two fresh networks, matched by weights; seconds, median of 3")
    for heading in ("network", "finding groups", "matching", "rebasin", "distance left", "rebasin's"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name, build in {"ResNet-20": lambda: resnet20((3, 32, 32), 10), "VGG16": vgg16}.items():
        first, second = (seeded(build, seed) for seed in (0, 1))
        a, b = first.state_dict(), {n: v.clone() for n, v in second.state_dict().items()}
        finding = [_seconds(lambda model=first: ob.find_permutations(model, PICTURE)) for _ in range(3)]
        spec = ob.find_permutations(first, PICTURE)
        matching = [_seconds(lambda spec=spec, a=a, b=b: ob.match(spec, a, b)) for _ in range(3)]
        ours = spec.apply(b, ob.match(spec, a, b))
        apart = _distance(a, b)
        seconds, theirs = _rebasin(first, second)
        left = "none" if theirs is None else f"{_distance(a, theirs) / apart:.4f}"
        table.add_row(
            name,
            f"{median(finding):.2f}",
            f"{median(matching):.3f}",
            seconds,
            f"{_distance(a, ours) / apart:.4f}",
            left,
        )
    Console().print(table)


def _rebasin(first: nn.Module, second: nn.Module) -> tuple[str, dict[str, Tensor] | None]:
    """The other package's time and result, where it is installed and takes the network."""
    try:
        from rebasin import PermutationCoordinateDescent
    except ImportError:
        return "not installed", None
    try:
        began = perf_counter()
        PermutationCoordinateDescent(first, second, PICTURE).rebasin()
        return f"{perf_counter() - began:.3f}", dict(second.state_dict())
    except Exception as error:  # whatever it raises is its answer
        return type(error).__name__, None


def _clients() -> None:
    table = Table(title=f"a server with the LeNet5 models of many clients; seconds, median of 3; {CLIENTS} clients")
    for heading in ("step", "seconds"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    model = lenet5((1, 28, 28), 10)
    states = [seeded(lambda: lenet5((1, 28, 28), 10), seed).state_dict() for seed in range(CLIENTS)]
    spec = ob.find_permutations(model, torch.zeros(2, 1, 28, 28))
    responses = Responses(spec, model, noise((1, 28, 28), 128, 0), features=128)
    sent = [encode_signatures(responses.of(state), 4) for state in states]

    def by_signatures() -> None:
        ob.align(responses.spec, [decode_signatures(data, responses.spec, 4) for data in sent])

    def by_least_squares() -> None:
        least_squares(model, states[:10], noise((1, 28, 28), 1000, 0), anchor=0)

    steps = {
        "one client's signature": lambda: encode_signatures(responses.of(states[0]), 4),
        f"frames from {CLIENTS} signatures of {len(sent[0]):,} bytes": by_signatures,
        f"frames from the weights of {CLIENTS}": lambda: ob.align(spec, states),
        "10 models refined together": lambda: ob.refine(spec, states[:10], ob.align(spec, states[:10])),
        "10 models by least squares, 1,000 probes": by_least_squares,
    }
    for name, step in steps.items():
        table.add_row(name, f"{median(_seconds(step) for _ in range(3)):.3f}")
    Console().print(table)


def _seconds(step: Callable[[], object]) -> float:
    began = perf_counter()
    step()
    return perf_counter() - began


def _distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return sum(float((first[n] - second[n]).square().sum()) for n in first if first[n].is_floating_point()) ** 0.5

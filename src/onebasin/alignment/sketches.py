"""Sketches: the distribution of a client's inputs in a few kilobytes.

From sketches, a server without data draws similar inputs, and computes which client an input resembles. A sketch is a
low-rank Gaussian over inputs at reduced resolution, with 8 bits for each value, and the number of examples of each
class. Tipping, Bishop: Probabilistic Principal Component Analysis. J. R. Stat. Soc. B 1999, section 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.alignment.models import AlignmentError
from onebasin.core.seeds import generator

LEVELS = 127
"""Largest magnitude of an encoded value."""
MAX_GRAM_SIZE = 1500
"""Largest matrix of which eigenvectors are computed."""
MIN_REST = 9e-13
"""Smallest residual variance beside the principal directions: 1e-12 in float32, with a margin."""
_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}
_HEADER = struct.Struct("<fff")


@dataclass(frozen=True)
class SketchForm:
    """The settings that all sketches of a task share, so that no message repeats them.

    shape: of one input. classes: their number. rank: number of principal directions. shrink: the factor by which
    spatial axes (all but the first of an input with several) are reduced.
    """

    shape: tuple[int, ...]
    classes: int
    rank: int = 20
    shrink: int = 2

    @property
    def reduced(self) -> tuple[int, ...]:
        """The shape of an input at reduced resolution."""
        if len(self.shape) < 2:
            return self.shape
        return (self.shape[0], *(math.ceil(size / self.shrink) for size in self.shape[1:]))

    @property
    def values(self) -> int:
        """The number of values of an input at reduced resolution."""
        return math.prod(self.reduced)

    @property
    def coded_bytes(self) -> int:
        """The number of bytes of an encoded sketch."""
        return _HEADER.size + 4 * self.classes + (self.rank + 1) * (4 + self.values)

    def reduce(self, inputs: Tensor) -> Tensor:
        """Reduce inputs [n, *shape] to [n, values] by averaging."""
        if self.reduced != self.shape:
            inputs = F.interpolate(inputs, size=self.reduced[1:], mode="area")
        return inputs.flatten(1)

    def restore(self, values: Tensor) -> Tensor:
        """Restore [n, values] to [n, *shape] by linear interpolation."""
        inputs = values.view(-1, *self.reduced)
        if self.reduced != self.shape:
            mode = _RESIZE[len(self.shape) - 1]
            inputs = F.interpolate(inputs, size=self.shape[1:], mode=mode, align_corners=False)
        return inputs


@dataclass(frozen=True)
class Sketch:
    """One client's Gaussian N(mean, directions' directions + rest) over reduced inputs, and the range of the inputs.

    mean: [values]. directions: [rank, values], scaled by their standard deviations. rest: the residual variance of each
    value. low, high: the smallest and largest value of an input. counts: number of examples of each class [classes].
    """

    form: SketchForm
    mean: Tensor
    directions: Tensor
    rest: float
    low: float
    high: float
    counts: Tensor

    def to_bytes(self) -> bytes:
        """Return `form.coded_bytes` bytes: 3 float32, uint32 counts, float32 scales of the rows, int8 values."""
        rows = torch.cat([self.mean.unsqueeze(0), self.directions])
        scales = rows.abs().amax(1) / LEVELS
        coded = torch.round(rows / torch.where(scales > 0, scales, 1.0).unsqueeze(1)).to(torch.int8)
        return b"".join(
            (
                _HEADER.pack(self.rest, self.low, self.high),
                self.counts.numpy().astype("<u4").tobytes(),
                scales.numpy().astype("<f4").tobytes(),
                coded.numpy().tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, form: SketchForm, data: bytes) -> Sketch:
        """Return the sketch in `data`. Errors: `AlignmentError` if the data are no sketch of this form."""
        if len(data) != form.coded_bytes:
            raise AlignmentError(f"the sketch has {len(data)} bytes, not {form.coded_bytes}")
        rest, low, high = _HEADER.unpack_from(data)
        at = _HEADER.size
        counts = np.frombuffer(data, "<u4", form.classes, at)
        at += counts.nbytes
        scales = np.frombuffer(data, "<f4", form.rank + 1, at)
        at += scales.nbytes
        if not (np.isfinite(scales).all() and (scales >= 0).all() and (scales < 1e6).all()):
            raise AlignmentError("a scale of the sketch is negative, too large, NaN or infinite")
        if not (MIN_REST <= rest < 1e6 and -1e6 < low <= high < 1e6) or not counts.any():
            raise AlignmentError(f"the sketch says rest={rest}, low={low}, high={high}, {counts.sum()} examples")
        coded = np.frombuffer(data, np.int8, offset=at).reshape(form.rank + 1, form.values)
        rows = torch.from_numpy(coded.astype(np.float32) * scales[:, None].astype(np.float32))
        return cls(form, rows[0], rows[1:], rest, low, high, torch.from_numpy(counts.astype(np.int64)))


def sketch(inputs: Tensor, targets: Tensor, form: SketchForm) -> Sketch:
    """Return the sketch of a client's examples after encoding and decoding, as the receiver will get it.

    inputs: float [n, *form.shape]. targets: int64 class numbers, of any shape.
    Errors: `AlignmentError` if the inputs are empty or not floating-point numbers.
    """
    if not inputs.is_floating_point() or len(inputs) == 0:
        raise AlignmentError(
            f"a sketch describes real inputs; these are {str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
        )
    reduced = form.reduce(inputs).double()
    mean = reduced.mean(0)
    directions = _principal(reduced - mean, form.rank)
    total = float((reduced - mean).square().mean())
    explained = float(directions.square().sum()) / form.values
    rest = max((total - explained) * form.values / max(form.values - form.rank, 1), 1e-6 * total, 1e-12)
    counts = torch.bincount(targets.flatten(), minlength=form.classes)
    result = Sketch(form, mean.float(), directions.float(), rest, float(inputs.min()), float(inputs.max()), counts)
    return Sketch.from_bytes(form, result.to_bytes())


def _principal(centred: Tensor, rank: int) -> Tensor:
    """The principal directions, scaled by their standard deviations: [rank, values]; zero rows if there are fewer.

    centred: [n, values] with mean 0. With more than `MAX_GRAM_SIZE` values, the directions come from the Gram matrix of
    the first `MAX_GRAM_SIZE` examples instead of the covariance matrix of the values.
    """
    values = centred.shape[1]
    found = torch.zeros(rank, values, dtype=centred.dtype)
    if values <= MAX_GRAM_SIZE:
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        kept = min(rank, values)
        found[:kept] = (vectors[:, -kept:] * variances[-kept:].clamp_min(0.0).sqrt()).T.flip(0)
        return found
    some = centred[:MAX_GRAM_SIZE]
    variances, vectors = torch.linalg.eigh(some @ some.T / len(some))
    kept = min(rank, len(some))
    found[:kept] = (vectors[:, -kept:].T @ some / math.sqrt(len(some))).flip(0)
    return found


def draw(sketches: Sequence[Sketch], count: int, seed: int) -> Tensor:
    """Return `count` inputs [count, *shape] drawn from the clients' Gaussians, in proportion to their examples.

    Values outside of a client's range are clipped, as in saturated pixels.
    """
    examples = [int(each.counts.sum()) for each in sketches]
    drawn = []
    for number, (each, size) in enumerate(zip(sketches, shares_of(count, examples), strict=True)):
        noise = torch.randn(size, each.form.rank, generator=generator(seed, "sketch", number))
        drawn.append(each.form.restore(each.mean + noise @ each.directions).clamp(each.low, each.high))
    return torch.cat(drawn)


def shares_of(count: int, weights: Sequence[int]) -> list[int]:
    """Return integer shares of `count` in proportion to `weights`, by the method of largest remainders."""
    total = sum(weights)
    exact = [count * weight / total for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for index in by_remainder[: count - sum(shares)]:
        shares[index] += 1
    return shares


def log_density(sketches: Sequence[Sketch], inputs: Tensor) -> Tensor:
    """Return the log density per value of each input under each client's Gaussian: float64 [clients, n].

    Woodbury's identity separates the distance along the principal directions from the rest.
    """
    found = []
    for each in sketches:
        directions = each.directions.double()
        deviation = each.form.reduce(inputs).double() - each.mean.double()
        size = len(directions)
        inner = torch.eye(size, dtype=torch.float64) + directions @ directions.T / each.rest
        along = deviation @ directions.T / each.rest
        square = deviation.square().sum(1) / each.rest - (along @ torch.linalg.inv(inner) * along).sum(1)
        volume = torch.linalg.slogdet(inner).logabsdet + each.form.values * math.log(2 * math.pi * each.rest)
        found.append(-0.5 * (square + volume) / each.form.values)
    return torch.stack(found)

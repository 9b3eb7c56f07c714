"""Recurrent layers in closed form: what their gates say at each step, and the weights that say something else.

A gate is a linear map of a layer's input and of its own state one step before, and a nonlinearity. What the gates
should say decides by itself which states follow (`Pass.replay`), so each step's input and last state are known before
the weights are, and these follow by ridge regression, as those of other layers do.
Layers: Elman 1990 (`nn.RNN`); Hochreiter, Schmidhuber 1997 (`nn.LSTM`); Cho et al. 2014 (`nn.GRU`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebasin.alignment.layers import unshared
from onebasin.alignment.ridge import Ridge

Said = Callable[[int, Tensor], Tensor]
"""What the gates say at a step, [sequences, columns], given the state before it."""


@dataclass(frozen=True)
class Map:
    """A linear map into the gates."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight, self.bias)

    def rows(self, some: slice) -> Map:
        """Some of its outputs alone, in the same memory."""
        return Map(self.weight[some], None if self.bias is None else self.bias[some])

    def fit(self, taken: Tensor, wanted: Tensor, ridge: float) -> None:
        """Have it say what is wanted [rows, outputs] of what is taken [rows, inputs]."""
        regression = Ridge(self.weight.unsqueeze(0), None if self.bias is None else self.bias.unsqueeze(0))
        regression.add(taken.unsqueeze(1), wanted.unsqueeze(1))
        regression.solve(ridge, self.weight, self.bias)


@dataclass(frozen=True)
class Pass:
    """One layer of a recurrent module in one direction, with its maps of the input and of the state.

    The gates say the sum of the two, but for a GRU's candidate, which takes them apart.
    """

    mode: str
    backwards: bool
    into: Map
    across: Map

    @property
    def size(self) -> int:
        """How many neurons the state has."""
        return self.across.weight.shape[1]

    @property
    def summed(self) -> int:
        """How many of a map's rows are summed with the other's: the first."""
        return self.size * {"GRU": 2, "LSTM": 4}.get(self.mode, 1)

    @property
    def columns(self) -> int:
        """How many values the gates say at each step."""
        return 2 * len(self.into.weight) - self.summed

    def says(self, inputs: Tensor) -> Said:
        """What the gates say of inputs [sequences, steps, values] with the weights that they have."""
        heard, many = self.into(inputs), self.summed

        def at(step: int, state: Tensor) -> Tensor:
            one, other = heard[:, step], self.across(state)
            return torch.cat([one[:, :many] + other[:, :many], one[:, many:], other[:, many:]], -1)

        return at

    def step(self, said: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The state, and an LSTM's cell, that follow."""
        if self.mode == "GRU":
            reset, update, candidate, own = said.chunk(4, -1)
            update = torch.sigmoid(update)
            return (1 - update) * torch.tanh(candidate + torch.sigmoid(reset) * own) + update * state, cell
        if self.mode == "LSTM":
            enter, forget, candidate, leave = said.chunk(4, -1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            return torch.sigmoid(leave) * torch.tanh(cell), cell
        return (torch.tanh(said) if self.mode == "RNN_TANH" else torch.relu(said)), cell

    def replay(self, sequences: int, steps: int, says: Said) -> tuple[Tensor, Tensor, Tensor]:
        """What was said, the state before each step, and the state after it: [sequences, steps, ...] each."""
        state = cell = self.across.weight.new_zeros(sequences, self.size)
        words, before, after = [], [], []
        for step in reversed(range(steps)) if self.backwards else range(steps):
            words.append(says(step, state))
            before.append(state)
            state, cell = self.step(words[-1], state, cell)
            after.append(state)
        told, earlier, later = (torch.stack(each, 1) for each in (words, before, after))
        return (told.flip(1), earlier.flip(1), later.flip(1)) if self.backwards else (told, earlier, later)

    def fit(self, inputs: Tensor, wanted: Tensor, ridge: float) -> None:
        """Give the maps the weights that say what is wanted, of these inputs and of the states that follow from it."""
        _, states, _ = self.replay(len(wanted), wanted.shape[1], lambda step, _: wanted[:, step])
        heard, own, said = inputs.flatten(0, 1), states.flatten(0, 1), wanted.flatten(0, 1)
        many = self.summed
        into, across = self.into.rows(slice(many)), self.across.rows(slice(many))
        left = said[:, :many] if across.bias is None else said[:, :many] - across.bias
        both = Map(torch.cat([into.weight, across.weight], 1), into.bias)
        both.fit(torch.cat([heard, own], 1), left, ridge)
        into.weight.copy_(both.weight[:, : heard.shape[1]])
        across.weight.copy_(both.weight[:, heard.shape[1] :])
        if many < len(self.into.weight):
            of_input, of_state = said[:, many:].chunk(2, -1)
            self.into.rows(slice(many, None)).fit(heard, of_input, ridge)
            self.across.rows(slice(many, None)).fit(own, of_state, ridge)


def recurrent_layers(model: nn.Module) -> dict[str, nn.RNNBase]:
    """Return the recurrent layers whose state is what they return (no projection), and that share no parameter."""
    return {
        name: module
        for name, module in unshared(model).items()
        if isinstance(module, nn.RNNBase) and module.proj_size == 0
    }


def by_sequence(module: nn.RNNBase, values: Tensor) -> Tensor:
    """What the module takes or returns, [sequences, steps, values]."""
    return values if module.batch_first else values.transpose(0, 1)


def listen(module: nn.RNNBase, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What all gates say of inputs [sequences, steps, values], and what the module returns.

    Both [sequences, steps, ...]; a layer's directions stand beside each other, layers after each other.
    """
    words = []
    for layer in _layers(module):
        replayed = [one.replay(len(inputs), inputs.shape[1], one.says(inputs)) for one in layer]
        words += [said for said, _, _ in replayed]
        inputs = torch.cat([after for _, _, after in replayed], -1)
    return torch.cat(words, -1), inputs


def fit_gates(module: nn.RNNBase, inputs: Tensor, wanted: Tensor, ridge: float) -> None:
    """Fit all gates, layer by layer, to what is wanted of them ([sequences, steps, columns], as `listen` has it)."""
    for layer in _layers(module):
        after = []
        for one in layer:
            own, wanted = wanted[..., : one.columns], wanted[..., one.columns :]
            one.fit(inputs, own, ridge)
            after.append(one.replay(len(inputs), inputs.shape[1], one.says(inputs))[2])
        inputs = torch.cat(after, -1)


def _layers(module: nn.RNNBase) -> Iterator[list[Pass]]:
    directions: list[Pass] = []
    for into, across, *biases in module.all_weights:
        into_bias, across_bias = biases or (None, None)
        directions.append(Pass(module.mode, bool(directions), Map(into, into_bias), Map(across, across_bias)))
        if len(directions) == 1 + module.bidirectional:
            yield directions
            directions = []

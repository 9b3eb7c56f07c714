"""Recurrent layers in closed form: the pre-activations of their gates, and weights that reproduce given ones.

The pre-activations of a gate are a linear map of the layer's input and of its state one step before. Given target
pre-activations determine all states (`RecurrentDirection.replay`), so the input and the previous state of each step
are known before the weights are, and ridge regression gives the weights, as in other layers.
Layers: Elman 1990 (`nn.RNN`); Hochreiter, Schmidhuber 1997 (`nn.LSTM`); Cho et al. 2014 (`nn.GRU`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebasin.alignment.layers import layers_with_own_parameters
from onebasin.alignment.ridge import Ridge

PreActivations = Callable[[int, Tensor], Tensor]
"""The pre-activations of all gates at a step, [sequences, columns], given the state before the step."""


@dataclass(frozen=True)
class AffineMap:
    """A linear map with an optional bias. weight: [outputs, inputs]; bias: [outputs] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight, self.bias)

    def select_outputs(self, outputs: slice) -> AffineMap:
        """The map to some of the outputs, which shares memory with this one."""
        return AffineMap(self.weight[outputs], None if self.bias is None else self.bias[outputs])

    def fit(self, inputs: Tensor, targets: Tensor, ridge: float) -> None:
        """Overwrite the map by ridge regression of targets [rows, outputs] on inputs [rows, inputs]."""
        regression = Ridge(self.weight.unsqueeze(0), None if self.bias is None else self.bias.unsqueeze(0))
        regression.add(inputs.unsqueeze(1), targets.unsqueeze(1))
        regression.solve(ridge, self.weight, self.bias)


@dataclass(frozen=True)
class RecurrentDirection:
    """One layer of a recurrent module in one direction, with its maps of the input and of the state.

    The pre-activations are the sum of both maps, except that a GRU's candidate needs the two values separately.
    """

    mode: str
    reverse: bool
    input_map: AffineMap
    state_map: AffineMap

    @property
    def size(self) -> int:
        """The number of neurons in the state."""
        return self.state_map.weight.shape[1]

    @property
    def summed(self) -> int:
        """The number of outputs of the two maps that are added to each other; these are the first ones."""
        return self.size * {"GRU": 2, "LSTM": 4}.get(self.mode, 1)

    @property
    def columns(self) -> int:
        """The number of pre-activations at each step."""
        return 2 * len(self.input_map.weight) - self.summed

    def pre_activations(self, inputs: Tensor) -> PreActivations:
        """The pre-activations with the present weights, for inputs [sequences, steps, values]."""
        from_inputs, summed = self.input_map(inputs), self.summed

        def at_step(step: int, state: Tensor) -> Tensor:
            from_input, from_state = from_inputs[:, step], self.state_map(state)
            both = from_input[:, :summed] + from_state[:, :summed]
            return torch.cat([both, from_input[:, summed:], from_state[:, summed:]], -1)

        return at_step

    def step(self, pre_activations: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The next state, and the next cell of an LSTM."""
        if self.mode == "GRU":
            reset, update, from_input, from_state = pre_activations.chunk(4, -1)
            update = torch.sigmoid(update)
            return (1 - update) * torch.tanh(from_input + torch.sigmoid(reset) * from_state) + update * state, cell
        if self.mode == "LSTM":
            enter, forget, candidate, leave = pre_activations.chunk(4, -1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            return torch.sigmoid(leave) * torch.tanh(cell), cell
        return (torch.tanh(pre_activations) if self.mode == "RNN_TANH" else torch.relu(pre_activations)), cell

    def replay(self, sequences: int, steps: int, pre_activations: PreActivations) -> tuple[Tensor, Tensor, Tensor]:
        """The pre-activations, the state before each step and the state after it: [sequences, steps, ...] each."""
        state = cell = self.state_map.weight.new_zeros(sequences, self.size)
        gates, before, after = [], [], []
        for step in reversed(range(steps)) if self.reverse else range(steps):
            gates.append(pre_activations(step, state))
            before.append(state)
            state, cell = self.step(gates[-1], state, cell)
            after.append(state)
        gate, earlier, later = (torch.stack(each, 1) for each in (gates, before, after))
        return (gate.flip(1), earlier.flip(1), later.flip(1)) if self.reverse else (gate, earlier, later)

    def fit(self, inputs: Tensor, targets: Tensor, ridge: float) -> None:
        """Fit both maps to target pre-activations, given the inputs and the states that follow from the targets.

        inputs: [sequences, steps, values]; targets: [sequences, steps, columns].
        """
        _, states, _ = self.replay(len(targets), targets.shape[1], lambda step, _: targets[:, step])
        input_rows, state_rows, target_rows = inputs.flatten(0, 1), states.flatten(0, 1), targets.flatten(0, 1)
        summed = self.summed
        input_map, state_map = (each.select_outputs(slice(summed)) for each in (self.input_map, self.state_map))
        sums = target_rows[:, :summed] if state_map.bias is None else target_rows[:, :summed] - state_map.bias
        both = AffineMap(torch.cat([input_map.weight, state_map.weight], 1), input_map.bias)
        both.fit(torch.cat([input_rows, state_rows], 1), sums, ridge)
        input_map.weight.copy_(both.weight[:, : input_rows.shape[1]])
        state_map.weight.copy_(both.weight[:, input_rows.shape[1] :])
        if summed < len(self.input_map.weight):
            input_targets, state_targets = target_rows[:, summed:].chunk(2, -1)
            self.input_map.select_outputs(slice(summed, None)).fit(input_rows, input_targets, ridge)
            self.state_map.select_outputs(slice(summed, None)).fit(state_rows, state_targets, ridge)


def recurrent_layers(model: nn.Module) -> dict[str, nn.RNNBase]:
    """Return the recurrent layers that share no parameter and return their state itself, without a projection."""
    return {
        name: module
        for name, module in layers_with_own_parameters(model).items()
        if isinstance(module, nn.RNNBase) and module.proj_size == 0
    }


def sequences_first(module: nn.RNNBase, values: Tensor) -> Tensor:
    """Return a module's input or output in the shape [sequences, steps, values]."""
    return values if module.batch_first else values.transpose(0, 1)


def gate_pre_activations(module: nn.RNNBase, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pre-activations of all gates for inputs [sequences, steps, values], and the module's output.

    Both are [sequences, steps, columns]. The columns are concatenated over the directions of each layer, then over
    the layers; those of the output are the directions of the last layer.
    """
    gates = []
    for layer in _layers(module):
        replayed = [one.replay(len(inputs), inputs.shape[1], one.pre_activations(inputs)) for one in layer]
        gates += [gate for gate, _, _ in replayed]
        inputs = torch.cat([after for _, _, after in replayed], -1)
    return torch.cat(gates, -1), inputs


def fit_gates(module: nn.RNNBase, inputs: Tensor, targets: Tensor, ridge: float) -> None:
    """Fit the gates of all layers, in their order, to target pre-activations.

    inputs: [sequences, steps, values]. targets: [sequences, steps, columns], as `gate_pre_activations` returns them.
    """
    for layer in _layers(module):
        after = []
        for one in layer:
            own, targets = targets[..., : one.columns], targets[..., one.columns :]
            one.fit(inputs, own, ridge)
            after.append(one.replay(len(inputs), inputs.shape[1], one.pre_activations(inputs))[2])
        inputs = torch.cat(after, -1)


def _layers(module: nn.RNNBase) -> Iterator[list[RecurrentDirection]]:
    """Yield the directions of each layer."""
    directions: list[RecurrentDirection] = []
    for input_weight, state_weight, *biases in module.all_weights:
        input_bias, state_bias = biases or (None, None)
        maps = AffineMap(input_weight, input_bias), AffineMap(state_weight, state_bias)
        directions.append(RecurrentDirection(module.mode, bool(directions), *maps))
        if len(directions) == 1 + module.bidirectional:
            yield directions
            directions = []

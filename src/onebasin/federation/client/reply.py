"""The third step of a client: the reply, and the client's next state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from onebasin.codecs.codec import flatten
from onebasin.codecs.context import CodingContext
from onebasin.codecs.residuals import read_residuals, with_residuals
from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.client.starting_point import ROUND_FACT, own_seed, reordered
from onebasin.federation.client.work import Done, Work
from onebasin.federation.messages import Request, write_report, write_seed
from onebasin.federation.protocol import Protocol
from onebasin.learning.local_training import Trained
from onebasin.wire.message import Kind, Section

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig

RESIDUALS = "uplink/"
"""The prefix of the slots in which the uplink's chain keeps its residuals."""


def finish_work(config: RunConfig, protocol: Protocol, state: State, done: Done) -> tuple[State, bytes]:
    """Return the client's next state and the encoded reply. The given state is not changed.

    Raises NotFinite if the reply would have NaN or infinite values.
    """
    work, trained = done.work, done.trained
    state = reordered(protocol, state, work.order)
    slots, facts = dict(state.slots), dict(state.facts)
    report = done.report
    for hook in protocol.hooks:
        report = hook.report(report)
    sections = [write_report(report), *done.sections]
    if Request.SEND_UPDATE in work.request:
        sections.append(_update(protocol, work, trained, state, slots, facts))
    if Request.SEND_MODEL in work.request:
        sections += _own_model(config, protocol, work, trained, state, slots)
    if len(protocol.buffers) and work.request & (Request.SEND_UPDATE | Request.SEND_MODEL):
        sections.append(Section(Kind.UPDATE, "buffers", protocol.exact.encode(trained.buffers)))
    if Request.TRAIN in work.request:
        for hook in protocol.hooks:
            sections += hook.reply_sections(work, trained, state, slots)
    _remember(config, protocol, work, trained, slots)
    after = State(slots, facts)
    if work.broadcast is not None:
        work.broadcast.into(after)
    if after.slots:
        after.facts[ROUND_FACT] = work.round
    return after, protocol.write(work.round, work.client, sections)


def _update(
    protocol: Protocol, work: Work, trained: Trained, state: State, slots: dict[str, Tensors], facts: dict[str, Any]
) -> Section:
    """Return the section of the update to the model that the server knows; add the residuals to `slots`."""
    update = {name: weight - work.known_model[name] for name, weight in trained.weights.items()}
    for hook in protocol.hooks:
        update = hook.update(update, facts, work.client, work.round)
    return Section(Kind.UPDATE, "update", _encoded(protocol, work, update, state, slots, flatten(work.known_model)))


def _own_model(
    config: RunConfig, protocol: Protocol, work: Work, trained: Trained, state: State, slots: dict[str, Tensors]
) -> Iterator[Section]:
    """Yield the sections of the client's own model: its values, or its seed and a delta, or its seed and a mask."""
    seed = own_seed(config, work.client)
    if protocol.sends_seeds:
        initial = protocol.initial_model(seed)[0]
        delta = {name: weight - initial[name] for name, weight in trained.weights.items()}
        yield write_seed(seed)
        yield Section(Kind.UPDATE, "update", _encoded(protocol, work, delta, state, slots, None))
    elif protocol.seed_and_mask is not None:
        yield write_seed(seed)
        yield Section(Kind.UPDATE, "update", protocol.seed_and_mask.encode(trained.weights))
    else:
        yield Section(Kind.UPDATE, "weights", protocol.whole_models.encode(trained.weights))


def _encoded(
    protocol: Protocol,
    work: Work,
    update: Tensors,
    state: State,
    slots: dict[str, Tensors],
    known_model: torch.Tensor | None,
) -> bytes:
    """Encode an update, and add the residuals to `slots`. known_model: the model that the server has, too [n]."""
    residuals = read_residuals(state.slots, RESIDUALS)
    base = known_model if protocol.sends_deltas else None
    context = CodingContext(protocol.run, work.round, work.client, residuals, known_model=known_model, base_model=base)
    history = None if work.broadcast is None else work.broadcast.change_history
    body = protocol.uplink.body(update, context, history)
    updated = with_residuals(slots, RESIDUALS, context.next_residuals, protocol.parameters)
    slots.clear()
    slots.update(updated)
    return body


def _remember(config: RunConfig, protocol: Protocol, work: Work, trained: Trained, slots: dict[str, Tensors]) -> None:
    """Write to the slots what the client keeps: its own model, the optimiser's state, the objective's memory."""
    if not work.own:  # the global model has replaced the client's own
        slots.pop("weights", None)
        slots.pop("buffers", None)
    if Request.KEEP_MODEL in work.request or any(hook.keeps_model for hook in protocol.hooks):
        slots["weights"], slots["buffers"] = trained.weights, trained.buffers
    if config.training.keep_optimizer:
        slots["optimizer"] = trained.optimizer
    if Request.TRAIN in work.request and config.method.objective.keeps_memory:
        slots["objective"] = trained.memory

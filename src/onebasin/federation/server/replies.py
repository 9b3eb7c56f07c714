"""A client's answer, as the server takes it: decoded and checked, and nothing but what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from onebasin.alignment.repair import Statistics
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors
from onebasin.core.norms import length, shortened
from onebasin.federation.protocol import Do, Protocol, Report, read_report, read_seed
from onebasin.methods.settings import NormBound
from onebasin.wire.error import WireError
from onebasin.wire.message import Message


@dataclass(frozen=True)
class Answer:
    """model: an update or whole weights, as was asked. update, sketch: as they were sent, but known to be such.

    seed: of what a whole model began with, if it was told so.
    """

    report: Report
    model: Tensors | None
    buffers: Tensors
    control: Tensors | None
    signatures: Tensors | None
    sketch: bytes | None
    statistics: Statistics | None
    update: bytes | None
    seed: int | None

    @property
    def is_coded(self) -> bool:
        """Whether it has values that were coded, and decoded here to the same ones."""
        return self.model is not None or self.control is not None or bool(self.buffers)


def read_answer(
    protocol: Protocol, reply: bytes, asked: Do, context: CodingContext, classes: ChangeHistory | None = None
) -> Answer:
    """Return what a reply says; `WireError` if it is damaged, foreign, or not what was asked for.

    `Diverged` if it says other values here than its client coded.

    context: of whom it is to be, and to which round. classes: what both sides know of each value of an update.
    """
    message = protocol.read(reply, context.sender)
    if message.round != context.round:
        raise WireError(f"the reply is to round {message.round}, not to round {context.round}")
    report = read_report(message)
    if report.examples == 0:
        raise WireError("the client reports that it holds no examples")
    found = {section.name: section for section in message.sections}
    expected = _expected(protocol, asked)
    if found.keys() != expected:
        raise WireError(f"the reply has {list(found)}; expected {sorted(expected)}")

    def body(*names: str) -> bytes | None:
        return next((found[name].body for name in names if name in found), None)

    model, buffers, control = body("update", "weights"), body("buffers"), body("control")
    signatures, sketch, statistics = body("signatures"), body("sketch"), body("statistics")
    framing = protocol.framing
    if sketch is not None:
        framing.read_sketch(sketch)
    return Answer(
        report,
        None if model is None else _model(protocol, message, model, context, classes),
        {} if buffers is None else protocol.exact.decode(buffers),
        None if control is None else protocol.uplink.receive(control, CodingContext()),
        None if signatures is None else framing.read_signatures(signatures),
        sketch,
        None if statistics is None else framing.read_statistics(statistics),
        body("update"),
        read_seed(message) if "seed" in found else None,
    )


def within_bounds(answer: Answer, bound: NormBound) -> tuple[Answer, str]:
    """Return the answer with an update that is no longer than allowed, and what was done to it; "" for nothing.

    `WireError` where it is to be refused.
    """
    assert answer.model is not None
    found = length(answer.model)
    if found <= bound.limit:
        return answer, ""
    what = f"the update's norm is {found:.6g}; method.norm_bound.limit is {bound.limit:g}"
    if bound.over == "reject":
        raise WireError(what)
    return replace(answer, model=shortened(answer.model, bound.limit / found)), f"clipped: {what}"


def require_buffers_like(answer: Answer, common: Tensors) -> None:
    """Raise `WireError` for a buffer that is infinite where that of the common model is not."""
    for name, value in answer.buffers.items():
        if value.is_floating_point() and bool((torch.isinf(value) & torch.isfinite(common[name])).any()):
            raise WireError(f"{name} has infinite values where the common model has none")


def _model(
    protocol: Protocol, message: Message, body: bytes, context: CodingContext, classes: ChangeHistory | None
) -> Tensors:
    if message.section("seed") is not None and protocol.own_masks is not None:
        return protocol.own_masks.read(read_seed(message), body)
    if message.section("seed") is not None:
        learned = protocol.uplink.receive(body, replace(context, known_model=None, base_model=None))
        return {name: value + learned[name] for name, value in protocol.initial(read_seed(message))[0].items()}
    if message.section("update") is not None:
        return protocol.uplink.receive(body, context, classes)
    return protocol.models.decode(body)


def _expected(protocol: Protocol, asked: Do) -> set[str]:
    """The names of the sections that answer an order."""
    names = {
        Do.SEND_UPDATE: "update",
        Do.SEND_MODEL: "weights",
        Do.SEND_SIGNATURES: "signatures",
        Do.SEND_SKETCH: "sketch",
        Do.SEND_STATISTICS: "statistics",
    }
    expected = {"report", *(name for flag, name in names.items() if flag in asked)}
    if (protocol.seeded or protocol.own_masks is not None) and "weights" in expected:
        expected = expected - {"weights"} | {"seed", "update"}
    if asked & (Do.SEND_UPDATE | Do.SEND_MODEL) and len(protocol.buffers):
        expected.add("buffers")
    if Do.TRAIN in asked and protocol.controlled:
        expected.add("control")
    return expected

"""The codecs of both directions, and the choices of a method that do not go with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from onebasin.codecs.chain import STAGES, canonical, parse_chain, shared_subset
from onebasin.codecs.named_codecs import CODECS
from onebasin.codecs.stage import MaskStage
from onebasin.core.settings import Count, Settings

RELAY = "relay"
"""The downlink that forwards the clients' encoded updates to all clients."""


def _checked_codec(value: Any) -> Any:
    if value == "none" or value in CODECS:
        return value
    words = value.split("|")[0].split() if isinstance(value, str) else []
    if not words or (words[0] not in STAGES and ":" not in words[0]):
        names = ", ".join(STAGES.names)
        raise ValueError(
            f"unknown codec; there are none, {', '.join(CODECS)}, and chains of {names}, or package.module:Name"
        )
    return canonical(parse_chain(value))


def _checked_downlink(value: Any) -> Any:
    return value if value == RELAY else _checked_codec(value)


CodecName = Annotated[str, BeforeValidator(_checked_codec)]
DownlinkName = Annotated[str, BeforeValidator(_checked_downlink)]


class WarmupCodecs(Settings):
    """Warm-up codec schedule: other codecs in the first rounds (setting `method.opening`).

    With ``trains="sent"``, these rounds train all parameters, unless their uplink, too, sends a subset that all clients
    know beforehand.
    rounds: number of these rounds.
    uplink: the chain of updates in these rounds.
    downlink: the chain of the global model in these rounds; None for `method.downlink`.
    """

    rounds: Count
    uplink: CodecName
    downlink: CodecName | None = None


def is_chain(codec: str) -> bool:
    """Return whether a codec is a chain of stages, which encodes deltas."""
    return codec not in (*CODECS, "none", RELAY)


def mask_stage(codec: str) -> MaskStage | None:
    """Return the stage of a chain that makes masks from scores; None if there is none."""
    if not is_chain(codec):
        return None
    last = parse_chain(codec)[-1]
    return last if isinstance(last, MaskStage) else None


def masks_noise(codec: str) -> bool:
    """Return whether a chain is a mask over noise, for all values."""
    return is_chain(codec) and parse_chain(codec)[0].masks_noise


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that does not go with the method's codecs."""
    if (method.uplink == "none") != (method.downlink == "none"):
        yield f"uplink={method.uplink!r} and downlink={method.downlink!r}: either both are 'none' or neither"
        return
    if not method.federated and method.start != "local":
        yield f"start={method.start!r} needs a downlink; with downlink='none' only 'local' is possible"
    yield from _mask_needs(method)
    yield from _forwarding_needs(method)
    yield from _whole_model_needs(method)
    if method.trains == "sent" and (not is_chain(method.uplink) or shared_subset(parse_chain(method.uplink)) is None):
        yield (
            "trains='sent' needs an uplink whose chain sends places that all clients know beforehand, such as "
            f"'random-k 0.05 shared=true | uniform 4' or 'fragment 4 | fp16'; not {method.uplink!r}"
        )
    if method.opening is not None:
        yield from _warmup_needs(method)


def _mask_needs(method: Any) -> Iterator[str]:
    """Masks must be made from scores, and scores must be sent as masks."""
    stage = mask_stage(method.uplink)
    form, rule = method.parametrization.mask_form, method.combine
    fits = form == rule.mask_form and (form in stage.mask_forms if stage is not None else not form)
    if method.federated and not fits:
        scores = method.parametrization.kind + (" above-zero" if form == "sign" else "")
        yield (
            "parametrization='supermask' or 'sparse-combination', an uplink of 'mask' or 'mrc', and "
            "combine='beta-posterior' go together, and so do 'backbone-mask', 'threshold' and 'mean-mask', or a "
            "supermask with kept='above-zero', 'threshold' and 'overlap'; "
            f"these are {scores!r}, {method.uplink!r} and {rule.kind!r}"
        )
    wrong = mask_stage(method.downlink) or (stage if "|" in method.uplink else None)
    if wrong is not None:
        yield f"{(stage or wrong).name!r} is an uplink by itself: it draws from all scores"
    if stage is not None and method.downlink in ("fp16", "int8"):
        yield f"uplink={stage.name!r} needs a downlink that both sides hold exactly, not {method.downlink!r}"


def _forwarding_needs(method: Any) -> Iterator[str]:
    """Forwarded updates must suffice for every client to compute the next model."""
    if method.downlink != RELAY:
        return
    if method.start == "local" or not is_chain(method.uplink):
        yield (
            f"downlink='relay' needs a common start and an uplink that is a chain; start={method.start!r}, "
            f"uplink={method.uplink!r}"
        )
    if not method.combine.is_forwardable:
        yield (
            f"downlink='relay' has clients combine by themselves, and combine={method.combine.kind!r} needs what "
            "the server remembers or sees; use average, majority-vote, beta-posterior or mean-mask"
        )
    if method.norm_bound is not None or method.privacy is not None:
        yield "downlink='relay' has clients combine what was sent as it is: no norm_bound, no privacy"


def _whole_model_needs(method: Any) -> Iterator[str]:
    """Whole models that are sent with a seed need clients that start from their own seeds."""
    if method.models == "seeded" and (
        method.start != "local" or not is_chain(method.uplink) or method.frame == "signatures"
    ):
        yield (
            "models='seeded' says what clients learned since their own start, by a chain, in their own order of "
            f"neurons; not with start={method.start!r}, uplink={method.uplink!r}, frame={method.frame!r}"
        )
    if method.models == "masked" and (
        method.start != "local"
        or not method.federated
        or method.frame not in ("none", "weights", "activations")
        or method.parametrization.kind != "dense"
    ):
        yield (
            "models='masked' says clients' own models as masks over their own weights, in their own order of "
            "neurons, and needs start='local', frame='none', 'weights' or 'activations', parametrization='dense' "
            f"and an uplink; not start={method.start!r}, frame={method.frame!r}, "
            f"parametrization={method.parametrization.kind!r}, uplink={method.uplink!r}"
        )


def _warmup_needs(method: Any) -> Iterator[str]:
    """All codecs of a warm-up schedule must be chains, which encode deltas, and none can make masks from scores."""
    first = method.opening
    chains = [method.uplink, first.uplink]
    if first.downlink is not None:
        chains += [method.downlink, first.downlink]
    unfit = next((chain for chain in chains if not is_chain(chain) or mask_stage(chain) is not None), None)
    if unfit is not None:
        yield (
            "opening changes from chains to others, which say how weights change, up and perhaps down: "
            f"{unfit!r} is none; expected such as 'hadamard | eden 1'"
        )
    if not method.parametrization.keeps_weights:
        yield f"opening is for parametrization='dense' or 'masked-noise', not {method.parametrization.kind!r}"
    if method.parametrization.trains_updates_as_masks and not masks_noise(first.uplink):
        yield f"opening: parametrization='masked-noise' needs an uplink of 'masked-noise', not {first.uplink!r}"

"""A method is a composition: one choice for each question, and the rules of which choices go together."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from onebasin.codecs.chain import canonical, parse_chain, shared_subset
from onebasin.codecs.named_codecs import CODECS
from onebasin.codecs.stage import MaskStage
from onebasin.codecs.stages.masked_noise import MaskedNoise
from onebasin.methods.settings import (
    RELAY,
    Alignment,
    Average,
    CodecName,
    Combine,
    ControlVariates,
    Dense,
    DownlinkName,
    Frozen,
    LeastSquares,
    NormBound,
    Objective,
    Opening,
    Overlap,
    Parametrization,
    Plain,
    Privacy,
    Probes,
    Robust,
    Supermask,
    by_kind,
)

MASKS = {
    "supermask": (("mask", "mrc"), "beta-posterior"),
    "supermask above-zero": (("threshold",), "overlap"),
    "sparse-combination": (("mask", "mrc"), "beta-posterior"),
    "backbone-mask": (("threshold",), "mean-mask"),
}
"""For parametrizations whose scores travel as masks: the stages that make them, and what the server makes of them."""

SIGNS = canonical(parse_chain("ternary"))
"""The downlink that says -1, 0 and 1 exactly, of which the common model is made where each client has its own."""


class Method(Frozen):
    """A method: one choice for each question.

    start: whose weights a client begins with. `broadcast`: the server's, sent; `shared-seed`: the server's, sent as a
    seed; `local`: each client's own.
    frame: how the neurons of models from different starts come into one order before they are combined. `none`: not at
    all; `weights`: where weights are nearest; `activations`: where responses to probes are, which the server computes;
    `signatures`: the same from a few bits a neuron, which clients send before their models; `adopt-one`: one client's
    model is taken. repair: what restores neurons' statistics after models were merged, and whose they should be.
    data: `partitioned`, or `pooled` into one place (training that is not distributed).
    parametrization: what is trained, and travels, in the place of the model's weights.
    uplink, downlink: the codec, or a chain of stages, such as "error-feedback | top-k 0.01 | sign"; or `none` on both
    for clients that keep their models to themselves. A downlink that is a chain says what changed since a client last
    heard of the model, which it then has to keep; so does `relay`: all that the clients of a round sent goes to all
    clients as it is, and each puts it together as the server does. models: the codec of clients' whole models, where
    the uplink is a chain; `seeded`: the seed of what a client began with, and what it learned, as the uplink codes it;
    `masked`: it trains a mask over the weights of its seed, and both are sent (learning/seed_and_mask.py).
    With a backbone's mask, it is the codec of what is trained beside it.
    trains: `all` parameters, or only those whose changes are `sent` in the round, which all know beforehand.
    opening: the first rounds, where they are to say more than the others.
    score: of the common model on the test set; of clients that keep their models the `mean`, the `best`, or what all
    say `together`. `personal`: the mean of how well each client is served, whose model (its own, or the common one)
    is judged on the client's own distribution of labels (`ByClass.on`). `fine-tuned`: the same of what clients make of
    the common model in a local phase, before it is combined. norm_bound: how long an update may be. privacy: what is
    promised of any one client's data.
    """

    name: str
    data: Literal["partitioned", "pooled"] = "partitioned"
    start: Literal["broadcast", "shared-seed", "local"] = "broadcast"
    frame: Literal["none", "weights", "activations", "signatures", "adopt-one"] = "none"
    alignment: Alignment = Alignment()
    repair: Literal["none", "repair", "rescale", "norm-reset"] = "none"
    repair_targets: Literal["probes", "clients"] = "probes"
    probes: Annotated[Probes, BeforeValidator(by_kind)] = Probes()
    parametrization: Parametrization = Dense()
    objective: Objective = Plain()
    uplink: CodecName = "fp32"
    downlink: DownlinkName = "fp32"
    models: Literal["fp32", "fp16", "int8", "seeded", "masked"] = "fp32"
    trains: Literal["all", "sent"] = "all"
    opening: Opening | None = None
    combine: Combine = Average()
    norm_bound: NormBound | None = None
    privacy: Privacy | None = None
    score: Literal["mean", "best", "together", "personal", "fine-tuned"] = "mean"

    @property
    def federated(self) -> bool:
        """Whether models travel at all."""
        return self.uplink != "none"

    @property
    def personal(self) -> bool:
        """Whether models travel, and yet each client has one of its own."""
        return self.federated and isinstance(self.combine, Overlap)

    @property
    def scored_by_clients(self) -> bool:
        """Whether clients score models and report it, rather than the common model being scored."""
        return not self.federated or self.score == "fine-tuned" or (self.personal and self.score == "personal")

    @property
    def whole(self) -> str:
        """The codec of whole models that clients send, if they do not send a seed and an update."""
        if self.uplink in CODECS:
            return self.uplink
        return "fp32" if self.models in ("seeded", "masked") else self.models

    @property
    def controlled(self) -> bool:
        """Whether control variates travel."""
        return isinstance(self.objective, ControlVariates)

    @property
    def aligned(self) -> bool:
        """Whether neurons are brought into one order."""
        return self.frame in ("weights", "activations", "signatures")

    @property
    def sketched(self) -> bool:
        """Whether clients say what their inputs are like."""
        experts = isinstance(self.combine, LeastSquares) and self.combine.targets == "experts"
        return experts or (self.probed and self.probes.kind == "sketch")

    @property
    def probed(self) -> bool:
        """Whether the server asks models itself to combine them."""
        return isinstance(self.combine, LeastSquares) or self.repair != "none"

    @model_validator(mode="after")
    def _choices_fit(self) -> "Method":
        if self.score in ("best", "together") and self.federated:
            raise ValueError(f"score={self.score!r} is for clients that keep their models; others are scored by theirs")
        if self.score == "fine-tuned" and (self.personal or not self.federated):
            raise ValueError("score='fine-tuned' is of a common model; clients that keep theirs have 'personal'")
        if (self.uplink == "none") != (self.downlink == "none"):
            raise ValueError(
                f"uplink={self.uplink!r} and downlink={self.downlink!r}: either both are 'none' or neither"
            )
        if not self.federated and self.start != "local":
            raise ValueError(f"start={self.start!r} needs a downlink; with downlink='none' only 'local' is possible")
        if not self.federated and self.objective.kind == "control-variates":
            raise ValueError("objective='control-variates' needs an uplink and a downlink")
        if self.objective.kind == "control-variates" and not {self.uplink, self.downlink} <= {*CODECS}:
            raise ValueError(f"objective='control-variates' needs an uplink and a downlink of {', '.join(CODECS)}")
        if self.frame == "adopt-one" and self.objective.kind == "control-variates":
            raise ValueError("frame='adopt-one' has no common model in round 1, which 'control-variates' needs")
        if self.frame == "adopt-one" and not (self.federated and self.start == "local"):
            raise ValueError(f"frame='adopt-one' needs start='local', not {self.start!r}, and an uplink")
        if self.aligned and not self.federated:
            raise ValueError(f"frame={self.frame!r} needs an uplink and a downlink")
        if self.aligned and self.objective.kind == "control-variates":
            raise ValueError(f"frame={self.frame!r} and objective='control-variates' exclude each other")
        if self.aligned and self.start != "local" and not self.alignment.every_round:
            raise ValueError(
                f"frame={self.frame!r} with start={self.start!r} has nothing to align: all clients begin from one "
                "model; use start='local', or alignment.every_round=true"
            )
        if self.frame == "signatures" and self.alignment.every_round:
            raise ValueError("frame='signatures' is for models that meet; alignment.every_round needs frame='weights'")
        if self.parametrization.kind not in ("dense", "masked-noise") and (self.aligned or self.probed):
            raise ValueError(
                f"parametrization={self.parametrization.kind!r} has no neurons' weights that others could set; frame="
                f"{self.frame!r}, repair={self.repair!r} and combine={self.combine.kind!r} need 'dense'"
            )
        if self.parametrization.kind == "masked-noise" and not _masks_noise(self.uplink):
            raise ValueError(
                "parametrization='masked-noise' is trained towards what an uplink of 'masked-noise' sends, by itself; "
                f"not {self.uplink!r}"
            )
        draws = _drawn(self.uplink)
        if self.federated:
            self._masks_fit(draws)
        if _drawn(self.downlink) or (draws and "|" in self.uplink):
            name = draws or _drawn(self.downlink)
            raise ValueError(f"{name!r} is an uplink by itself: it draws from all scores")
        if draws and self.downlink in ("fp16", "int8"):
            raise ValueError(f"uplink={draws!r} needs a downlink that both sides hold exactly, not {self.downlink!r}")
        if self.downlink == RELAY and (self.start == "local" or self.uplink in CODECS):
            raise ValueError(
                f"downlink='relay' needs a common start and an uplink that is a chain; start={self.start!r}, "
                f"uplink={self.uplink!r}"
            )
        if self.downlink == RELAY and self.combine.kind not in (
            "average",
            "majority-vote",
            "beta-posterior",
            "mean-mask",
        ):
            raise ValueError(
                f"downlink='relay' has clients combine by themselves, and combine={self.combine.kind!r} needs what "
                "the server remembers or sees; use average, majority-vote, beta-posterior or mean-mask"
            )
        if self.models == "seeded" and (self.start != "local" or self.uplink in CODECS or self.frame == "signatures"):
            raise ValueError(
                "models='seeded' says what clients learned since their own start, by a chain, in their own order of "
                f"neurons; not with start={self.start!r}, uplink={self.uplink!r}, frame={self.frame!r}"
            )
        if self.models == "masked" and (
            self.start != "local"
            or not self.federated
            or self.frame not in ("none", "weights", "activations")
            or self.parametrization.kind != "dense"
        ):
            raise ValueError(
                "models='masked' says clients' own models as masks over their own weights, in their own order of "
                "neurons, and needs start='local', frame='none', 'weights' or 'activations', parametrization='dense' "
                f"and an uplink; not start={self.start!r}, frame={self.frame!r}, "
                f"parametrization={self.parametrization.kind!r}, uplink={self.uplink!r}"
            )
        if self.trains == "sent" and (
            self.uplink in (*CODECS, "none") or shared_subset(parse_chain(self.uplink)) is None
        ):
            raise ValueError(
                "trains='sent' needs an uplink whose chain sends places that all clients know beforehand, such as "
                f"'random-k 0.05 shared=true | uniform 4' or 'fragment 4 | fp16'; not {self.uplink!r}"
            )
        if self.opening is not None:
            self._opens_with(self.opening)
        guarded = self.norm_bound is not None or isinstance(self.combine, Robust)
        if guarded and self.objective.kind == "control-variates":
            raise ValueError(
                f"objective='control-variates' takes the mean of what clients say of their variates, which neither "
                f"norm_bound nor combine={self.combine.kind!r} guards"
            )
        if guarded and (not self.federated or draws):
            raise ValueError(
                f"norm_bound and combine={self.combine.kind!r} are for updates, which uplink={self.uplink!r} has not"
            )
        if self.downlink == RELAY and (self.norm_bound is not None or self.privacy is not None):
            raise ValueError("downlink='relay' has clients combine what was sent as it is: no norm_bound, no privacy")
        if self.privacy is not None:
            self._nothing_else_travels()
        if self.probed and not self.federated:
            raise ValueError("repair and combine='least-squares' need an uplink and a downlink")
        return self

    def _masks_fit(self, draws: str) -> None:
        """Raise `ValueError` for scores that do not travel as masks, and masks of what are no scores."""
        trained = self.parametrization
        above_zero = isinstance(trained, Supermask) and trained.kept == "above-zero"
        scores = f"{trained.kind} above-zero" if above_zero else trained.kind
        stages, combine = MASKS.get(scores, (("",), ""))
        masks = self.combine.kind if self.combine.kind in {kind for _, kind in MASKS.values()} else ""
        if draws not in stages or masks != combine:
            raise ValueError(
                "parametrization='supermask' or 'sparse-combination', an uplink of 'mask' or 'mrc', and "
                "combine='beta-posterior' go together, and so do 'backbone-mask', 'threshold' and 'mean-mask', or a "
                "supermask with kept='above-zero', 'threshold' and 'overlap'; "
                f"these are {scores!r}, {self.uplink!r} and {self.combine.kind!r}"
            )
        if self.personal and (self.start != "shared-seed" or self.downlink != SIGNS):
            raise ValueError(
                f"combine='overlap' tells of weights that all know, by their signs: start='shared-seed' and downlink="
                f"'ternary', not {self.start!r} and {self.downlink!r}"
            )
        if self.parametrization.kind == "backbone-mask" and self.start == "local":
            raise ValueError("parametrization='backbone-mask' has one backbone for all: start='local' is no use")

    def _opens_with(self, opening: Opening) -> None:
        """Raise `ValueError` for an opening of what does not change from chain to chain."""
        chains = [self.uplink, opening.uplink]
        if opening.downlink is not None:
            chains += [self.downlink, opening.downlink]
        unfit = next((chain for chain in chains if chain in (*CODECS, "none", RELAY) or _drawn(chain)), None)
        if unfit is not None:
            raise ValueError(
                "opening changes from chains to others, which say how weights change, up and perhaps down: "
                f"{unfit!r} is none; expected such as 'hadamard | eden 1'"
            )
        if self.parametrization.kind not in ("dense", "masked-noise"):
            raise ValueError(
                f"opening is for parametrization='dense' or 'masked-noise', not {self.parametrization.kind!r}"
            )
        if self.parametrization.kind == "masked-noise" and not _masks_noise(opening.uplink):
            raise ValueError(
                f"opening: parametrization='masked-noise' needs an uplink of 'masked-noise', not {opening.uplink!r}"
            )

    def _nothing_else_travels(self) -> None:
        """Raise `ValueError` for choices that send what is neither clipped nor noised."""
        for field, allowed in (("start", ("broadcast", "shared-seed")), ("frame", ("none",)), ("repair", ("none",))):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"privacy: {field}={getattr(self, field)!r} sends more than updates to a common model; "
                    f"use {allowed[0]!r}"
                )
        if self.scored_by_clients and self.federated:
            raise ValueError(f"privacy: score={self.score!r} has clients report what has no noise; use 'mean'")
        if not self.federated or _drawn(self.uplink) or self.controlled or self.sketched:
            raise ValueError(
                f"privacy is for updates alone; uplink={self.uplink!r}, objective={self.objective.kind!r} and combine="
                f"{self.combine.kind!r} send others or more"
            )
        if self.privacy is not None and self.privacy.at == "server" and isinstance(self.combine, Robust | LeastSquares):
            raise ValueError(f"privacy.at='server' adds noise to a sum, and combine={self.combine.kind!r} makes none")


def _masks_noise(chain: str) -> bool:
    """Whether a chain is a mask over noise, for all values."""
    return chain not in (*CODECS, "none") and isinstance(parse_chain(chain)[0], MaskedNoise)


def _drawn(chain: str) -> str:
    """The name of the stage in which a chain makes masks of scores; nothing if it makes none."""
    if chain in CODECS or chain in ("none", RELAY):
        return ""
    last = parse_chain(chain)[-1]
    return last.name if isinstance(last, MaskStage) else ""

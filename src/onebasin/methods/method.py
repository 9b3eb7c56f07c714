"""A method: one choice for each question. Which choices go together is written beside each choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from onebasin.codecs.named_codecs import CODECS
from onebasin.core.settings import Choice, Settings, by_kind
from onebasin.learning.objective import AnyObjective
from onebasin.learning.objectives.plain import Plain
from onebasin.learning.parametrization import AnyParametrization
from onebasin.learning.parametrizations.dense import Dense
from onebasin.methods import codec_settings, neuron_order, norm_bound, privacy_settings, probes, scoring
from onebasin.methods.aggregation.average import Average
from onebasin.methods.aggregation_rule import AnyAggregationRule
from onebasin.methods.codec_settings import CodecName, DownlinkName, WarmupCodecs
from onebasin.methods.neuron_order import Alignment, NeuronOrder
from onebasin.methods.norm_bound import NormBound
from onebasin.methods.privacy_settings import Privacy
from onebasin.methods.probes import Probes, Repair
from onebasin.methods.scoring import Score


class Method(Settings):
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
    frame: NeuronOrder = "none"
    alignment: Alignment = Alignment()
    repair: Repair = "none"
    repair_targets: Literal["probes", "clients"] = "probes"
    probes: Annotated[Probes, BeforeValidator(by_kind)] = Probes()
    parametrization: AnyParametrization = Dense()
    objective: AnyObjective = Plain()
    uplink: CodecName = "fp32"
    downlink: DownlinkName = "fp32"
    models: Literal["fp32", "fp16", "int8", "seeded", "masked"] = "fp32"
    trains: Literal["all", "sent"] = "all"
    opening: WarmupCodecs | None = None
    combine: AnyAggregationRule = Average()
    norm_bound: NormBound | None = None
    privacy: Privacy | None = None
    score: Score = "mean"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Return the choices that are made by name, each of which says what it excludes."""
        return (self.parametrization, self.objective, self.combine)

    @property
    def federated(self) -> bool:
        """Return whether models travel at all."""
        return self.uplink != "none"

    @property
    def personal(self) -> bool:
        """Return whether models travel, and yet each client has one of its own."""
        return self.federated and self.combine.personal_models

    @property
    def scored_by_clients(self) -> bool:
        """Return whether clients score models and report it, rather than the server scoring the global model."""
        return not self.federated or self.score == "fine-tuned" or (self.personal and self.score == "personal")

    @property
    def dense_codec(self) -> str:
        """Return the codec of whole models that clients send, where they do not send a seed and an update."""
        if self.uplink in CODECS:
            return self.uplink
        return "fp32" if self.models in ("seeded", "masked") else self.models

    @property
    def dense_codecs(self) -> tuple[str, ...]:
        """Return the names of the codecs that send every value."""
        return tuple(CODECS)

    @property
    def is_dense(self) -> bool:
        """Return whether both directions send every value."""
        return {self.uplink, self.downlink} <= {*CODECS}

    @property
    def forwards_updates(self) -> bool:
        """Return whether the clients' updates are the downlink."""
        return self.downlink == codec_settings.RELAY

    @property
    def aligned(self) -> bool:
        """Return whether neurons are brought into one order."""
        return self.frame in ("weights", "activations", "signatures")

    @property
    def sketched(self) -> bool:
        """Return whether clients send descriptions of their inputs."""
        return self.combine.uses_sketches or (self.probed and self.probes.kind == "sketch")

    @property
    def probed(self) -> bool:
        """Return whether the server runs models on probe inputs to merge them."""
        return self.combine.uses_probes or self.repair != "none"

    @property
    def guarded(self) -> bool:
        """Return whether hostile updates are bounded."""
        return self.norm_bound is not None or self.combine.is_robust

    def masks_noise(self, codec: str) -> bool:
        """Return whether a codec is a mask over noise, for all values."""
        return codec_settings.masks_noise(codec)

    @model_validator(mode="after")
    def _choices_fit(self) -> Method:
        problems = list(self._problems())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        for part in (scoring, codec_settings, neuron_order, probes, norm_bound, privacy_settings):
            yield from part.needs(self)
        for choice in self.choices:
            yield from choice.needs(self)

    def run_needs(self, config: object) -> Iterator[str]:
        """Yield a sentence for each setting of the run (`RunConfig`) that does not go with the method."""
        for part in (neuron_order, probes, scoring, privacy_settings):
            yield from part.run_needs(config)
        for choice in self.choices:
            yield from choice.run_needs(config)

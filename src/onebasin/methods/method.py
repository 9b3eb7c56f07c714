"""The settings of a method.

Each choice says in its own class which other settings it excludes (`Choice.needs`); the other modules of this package
say it for the settings that they define.
"""

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
    """A federated method: one choice for each question (table `method`).

    name: the method's page, which gives the defaults of this table (`onebasin list methods`).
    data: `partitioned` over the clients; or `pooled`: one client has all examples (centralised training).
    start: the initial weights. `broadcast`: the server sends its own; `shared-seed`: the server sends the seed of its
    own; `local`: each client has its own initialisation.
    frame: how models from different initialisations are brought into one neuron order before they are merged. `none`:
    not at all; `weights`: neurons are matched by their weights; `activations`: by their responses to probe inputs,
    which the server computes; `signatures`: by responses of a few bits, which clients compute and send before their
    models; `adopt-one`: models are not merged, one client's model becomes the global model.
    alignment: settings of this matching, see `Alignment`.
    repair: how the activation statistics of a merged model are restored. `none`: not at all; `repair`: mean and
    standard deviation of each neuron; `rescale`: the standard deviation alone; `norm-reset`: BatchNorm's running
    statistics.
    repair_targets: where the statistics to restore come from. `probes`: measured on the probe inputs; `clients`: sent
    by the clients, measured on their own examples.
    probes: the inputs on which the server runs the clients' models, see `Probes`.
    parametrization: what is trained and sent in the place of the weights (`onebasin list parametrizations`).
    objective: the loss that a client minimises (`onebasin list objectives`).
    uplink: how updates are encoded: `fp32`, `fp16`, `int8`, or a chain of stages (`onebasin list codecs`) such as
    "error-feedback | top-k 0.01 | sign"; or `none`, in both directions: no model is sent.
    downlink: how the global model is encoded: as `uplink`; a chain encodes the deltas since the version that a client
    has, so clients keep the global model. Or `relay`: all clients get the encoded updates of all, and each computes the
    next global model itself.
    models: how a client's whole model is encoded, if the uplink is a chain. `fp32`, `fp16`, `int8`: its values;
    `seeded`: the seed of its initialisation, and the change since, encoded by the uplink; `masked`: a seed and a mask
    over its weights (learning/seed_and_mask.py). With a backbone mask: how the parameters beside the mask are encoded.
    trains: the parameters that a local phase trains. `all`; or `sent`: those that the uplink sends in this round, which
    all clients must know beforehand.
    opening: other codecs in the first rounds, see `WarmupCodecs`; None for none.
    combine: the aggregation rule, by which replies become the next global model (`onebasin list combine`).
    norm_bound: the largest norm of an update, see `NormBound`; None for no limit.
    privacy: differential privacy of each client's data, see `Privacy`; None for none.
    score: the accuracy in the history. `mean`: of the global model on the test set, or the mean of the clients' own
    models; `best`: of the best client's own model; `together`: of the ensemble of the clients' own models; `personal`:
    of each client's model (its own, or the global one) on the client's label distribution (metrics.py), the mean over
    clients; `fine-tuned`: likewise of the models that clients make from the global model in their local phase.
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
        """The parts that are chosen by name; `Choice.needs` yields a sentence for each setting that one excludes."""
        return (self.parametrization, self.objective, self.combine)

    @property
    def federated(self) -> bool:
        """Whether clients and server exchange models or updates."""
        return self.uplink != "none"

    @property
    def personal(self) -> bool:
        """Whether clients exchange updates, but each keeps its own model."""
        return self.federated and self.combine.personal_models

    @property
    def scored_by_clients(self) -> bool:
        """Whether clients score their models and report the result; otherwise the global model is scored."""
        return not self.federated or self.score == "fine-tuned" or (self.personal and self.score == "personal")

    @property
    def dense_codec(self) -> str:
        """The name of the codec that encodes a client's whole model by its values."""
        if self.uplink in CODECS:
            return self.uplink
        return "fp32" if self.models in ("seeded", "masked") else self.models

    @property
    def dense_codecs(self) -> tuple[str, ...]:
        """The names of all codecs that send every value (dense codecs: `fp32`, `fp16`, `int8`)."""
        return tuple(CODECS)

    @property
    def is_dense(self) -> bool:
        """Whether the codecs of both directions send every value."""
        return {self.uplink, self.downlink} <= {*CODECS}

    @property
    def forwards_updates(self) -> bool:
        """Return whether the clients' updates are the downlink."""
        return self.downlink == codec_settings.RELAY

    @property
    def aligned(self) -> bool:
        """Whether models are matched and brought into one neuron order."""
        return self.frame in ("weights", "activations", "signatures")

    @property
    def sketched(self) -> bool:
        """Whether clients send sketches of their inputs."""
        return self.combine.uses_sketches or (self.probed and self.probes.kind == "sketch")

    @property
    def probed(self) -> bool:
        """Whether the server runs models on probe inputs to merge or repair them."""
        return self.combine.uses_probes or self.repair != "none"

    @property
    def guarded(self) -> bool:
        """Whether the influence of a hostile client is bounded."""
        return self.norm_bound is not None or self.combine.is_robust

    def masks_noise(self, codec: str) -> bool:
        """Return whether a codec is a chain that encodes all values as a mask over noise."""
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

"""The choices that a method is made of: each a frozen model, with a line on what it does."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from onebasin.codecs.chain import STAGES, canonical, parse_chain
from onebasin.codecs.named_codecs import CODECS


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def named(value: Any, key: str) -> Any:
    """A string stands for the table that has nothing but this key."""
    return {key: value} if isinstance(value, str) else value


def key_of_name(field: str) -> str:
    """The key under which a table of this field says which it is."""
    return "name" if field == "method" else "kind"


def by_kind(value: Any) -> Any:
    return named(value, "kind")


RELAY = "relay"


def _downlink(value: Any) -> Any:
    return value if value == RELAY else _codec(value)


def _names_stage(word: str) -> bool:
    return word in STAGES or ":" in word


def _codec(value: Any) -> Any:
    if value == "none" or value in CODECS:
        return value
    if not isinstance(value, str) or value.split("|")[0].split()[:1] == [] or not _names_stage(value.split()[0]):
        raise ValueError(f"unknown codec; there are none, {', '.join(CODECS)}, and chains of {', '.join(STAGES.names)}")
    return canonical(parse_chain(value))


Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Masked = Literal["weights", "neurons"]
CodecName = Annotated[str, BeforeValidator(_codec)]
DownlinkName = Annotated[str, BeforeValidator(_downlink)]


class Opening(Frozen):
    """The first `rounds` of a run, in which other chains say what changed.

    Where later rounds train only what is sent, in these all is trained, unless their uplink sends a part. downlink:
    the method's, unless given.
    """

    rounds: Count
    uplink: CodecName
    downlink: CodecName | None = None


class Dense(Frozen):
    """Every weight is a parameter."""

    kind: Literal["dense"] = "dense"


class LowRank(Frozen):
    """Layers' weights are Hadamard products of two low-rank ones.

    gamma: the rank, from the least that allows for weights of full rank (0) to the largest that saves parameters (1).
    """

    kind: Literal["low-rank"] = "low-rank"
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.1


class Supermask(Frozen):
    """Weights are random and stay as they are; a score a weight says whether it is kept.

    kept: weights are kept with the chance that their score stands for (`by-chance`), or those of a layer with the
    highest scores (`highest`): the share `density` of them; or where their score is above 0 (`above-zero`), as all are
    at first, when it is `score`. over: a score is of one of the `weights`, or of all weights into one of the `neurons`
    (or filters); in the last layer, whose neurons are the classes, of a weight.
    """

    kind: Literal["supermask"] = "supermask"
    kept: Literal["by-chance", "highest", "above-zero"] = "by-chance"
    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    over: Masked = "weights"
    score: Positive = 0.005


class SparseCombination(Frozen):
    """A layer's weights are fixed combinations of `compression` times fewer zeros and ones.

    Each weight is a sum of `degree` of them, times random factors; a score says how likely each is one.
    """

    kind: Literal["sparse-combination"] = "sparse-combination"
    compression: Annotated[float, Field(ge=1, le=1e6)] = 8.0
    degree: Annotated[int, Field(ge=1, le=64)] = 4


class MaskedNoise(Frozen):
    """Every weight is a parameter, trained towards a change that is masked noise, as the uplink of that name sends it.

     progressive: more and more values are masked in the course of a local phase, or all from its first step on
    .
    """

    kind: Literal["masked-noise"] = "masked-noise"
    progressive: bool = True


class Anchored(Frozen):
    """A `fraction` of each layer's weights stays at constants from the run's seed, and does not travel.

    scale: how large constants are, in initial weights.
    """

    kind: Literal["anchored"] = "anchored"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.4
    scale: Positive = 1.0


class BackboneMask(Frozen):
    """Weights of a trained network stay (task.weights); a score a weight says whether it is kept, and the last layer is
    trained.

    score: of each weight at first; those above 0 are kept. over: a score is of one of the `weights`, or of all weights
    into one of the `neurons` (or filters); biases stay.
    """

    kind: Literal["backbone-mask"] = "backbone-mask"
    score: Positive = 0.005
    over: Masked = "weights"


class Plain(Frozen):
    """The client minimises its own loss."""

    kind: Literal["plain"] = "plain"


class Proximal(Frozen):
    """The client's loss + mu/2 |w - w_received|^2."""

    kind: Literal["proximal"] = "proximal"
    mu: Annotated[float, Field(ge=0)] = 0.01


class ControlVariates(Frozen):
    """The client adds c - c_i to every gradient (SCAFFOLD)."""

    kind: Literal["control-variates"] = "control-variates"


class Average(Frozen):
    """w + rate * mean update."""

    kind: Literal["average"] = "average"
    rate: Positive = 1.0


class Momentum(Frozen):
    """v = beta v + mean update; w + rate * v."""

    kind: Literal["momentum"] = "momentum"
    rate: Positive = 1.0
    beta: Fraction = 0.9


class Adaptive(Frozen):
    """m = beta1 m + (1 - beta1) mean update; w + rate * m / (sqrt(v) + tau), v by Adam's or Yogi's rule."""

    kind: Literal["adam", "yogi"]
    rate: Positive = 0.01
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    tau: Positive = 1e-3


class Nesterov(Frozen):
    """v = beta v + mean update; w + rate * (mean update + beta v)."""

    kind: Literal["nesterov"] = "nesterov"
    rate: Positive = 0.7
    beta: Fraction = 0.9


class MajorityVote(Frozen):
    """w + rate * sign of the mean update."""

    kind: Literal["majority-vote"] = "majority-vote"
    rate: Positive = 0.001


class BetaPosterior(Frozen):
    """Chances of weights to be kept: the mean of the masks that clients drew, kept within `margin` and 1 - `margin`."""

    kind: Literal["beta-posterior"] = "beta-posterior"
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class MeanMask(Frozen):
    """Scores between -`score` and `score`, by the share of clients that keep a weight; of what is no score, the mean.

    So the weights that most clients keep are kept.
    """

    kind: Literal["mean-mask"] = "mean-mask"
    score: Positive = 0.005


class Overlap(Frozen):
    """Where two clients or more keep a weight: whether more than the share `share` of all do; the rest stays personal.

    Each client goes on from a mask of its own. score: how large a score is that was turned.
    """

    kind: Literal["overlap"] = "overlap"
    share: Fraction = 0.5
    score: Positive = 0.005


class LeastSquares(Frozen):
    """The weights that reproduce the clients' outputs on probes, layer by layer.

    targets: `mean` of the clients' outputs, or `experts`: each client is heard on the classes and inputs that it knows.
    agreement: a client's word on a neuron counts as much as its neuron agrees with that of the client with most data:
    their correlation to this power. "auto": 0, 2 or 8, whichever leaves less disagreement on every second probe; for
    probes that are real (synthetic ones are a poor judge).
    balance: make neurons' incoming and outgoing weights equally large, which changes nothing that is said: for models
    that are trained on at a high rate.
    distil: steps of gradient descent towards the targets on the same probes, afterwards.
    rounds: only in so many rounds, the first ones, and the mean afterwards; 0: in all; `meetings`: in those in which
    somebody's own model joins those that are in the common one, or all meet.
    """

    kind: Literal["least-squares"] = "least-squares"
    ridge: Positive = 0.003
    targets: Literal["mean", "experts"] = "experts"
    agreement: Annotated[float, Field(ge=0)] | Literal["auto"] = 2.0
    balance: bool = False
    distil: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(ge=0)] | Literal["meetings"] = 0

    def serves(self, round: int, meeting: bool) -> bool:
        """Whether it combines the replies of a round. meeting: some of them are models that were never combined."""
        if self.rounds == "meetings":
            return meeting
        return not self.rounds or round <= self.rounds


class TrimmedMean(Frozen):
    """w + rate * the mean of each value's updates but for the share `trim` of the smallest and of the largest.

    Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning. ICML 2018 (arXiv 1803.01498), definition 2.
    The server holds all replies of a round; all count alike.
    """

    kind: Literal["trimmed-mean"] = "trimmed-mean"
    trim: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    rate: Positive = 1.0


class Median(Frozen):
    """w + rate * the median of each value's updates.

    Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning. ICML 2018 (arXiv 1803.01498), definition 1.
    The server holds all replies of a round; all count alike.
    """

    kind: Literal["median"] = "median"
    rate: Positive = 1.0


class Krum(Frozen):
    """w + rate * the mean of the `keep` updates that are nearest to their neighbours.

    Up to `byzantine` of a round's n clients may be hostile; each is judged by its distances to the n - byzantine - 2
    that are nearest. Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries. NIPS 2017 (arXiv
    1703.02757), section 4; with keep > 1, Multi-Krum. The server holds all replies of a round; all count alike.
    """

    kind: Literal["krum"] = "krum"
    byzantine: Count = 2
    keep: Count = 1
    rate: Positive = 1.0


class NormBound(Frozen):
    """How long a client's update may be: the Euclidean norm of all its values together is at most `limit`.

    over: one that is longer is shortened to the limit (`clip`), or refused with a recorded reason (`reject`). Sun,
    Kairouz, Suresh, McMahan: Can You Really Backdoor Federated Learning? 2019 (arXiv 1911.07963), section 4.
    """

    limit: Positive
    over: Literal["clip", "reject"] = "clip"


class Privacy(Frozen):
    """What others learn of any one client's data is bounded: updates are clipped, and noise is added.

    clip: the most that an update's norm can be. noise: its standard deviation in each value, in clips. at: `client`,
    who adds it to its own update; or `server`, who adds as much to the sum of all, and is trusted. delta: at which the
    budget is told. seeding: noise is drawn from a `secret` that is never sent; or from the `run`'s seed,
    which makes studies repeatable and protects nobody who knows it.
    """

    clip: Positive
    noise: Annotated[float, Field(ge=0)]
    at: Literal["client", "server"] = "client"
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    seeding: Literal["secret", "run"] = "secret"


class Probes(Frozen):
    """The inputs that a server asks models with.

    noise: smooth, or uniform tokens, from a seed. sketch: drawn from what clients say about their inputs (`rank`
    directions, at a resolution `shrink` times lower). public: the examples that the task sets aside, without their
    labels. generated: text that the clients' language models write themselves.
    """

    kind: Literal["noise", "sketch", "public", "generated"] = "sketch"
    count: Count = 2000
    rank: Annotated[int, Field(ge=1, le=1000)] = 20
    shrink: Annotated[int, Field(ge=1, le=64)] = 2


class Alignment(Frozen):
    """How a frame is found (`frame`).

    features, bits: of a neuron's signature, or (features) of its activations. probes: what neurons are asked with, for
    signatures and activations. refine: move all models together afterwards (alignment/cycle_consistent.py; slow).
    every_round: align again in each round, not only models from different starts.
    """

    features: Annotated[int, Field(ge=1, le=65536)] = 128
    bits: Annotated[int, Field(ge=1, le=8)] = 4
    probes: Literal["noise", "public"] = "noise"
    refine: bool = False
    every_round: bool = False


Parametrization = Annotated[
    Dense | LowRank | Supermask | SparseCombination | MaskedNoise | Anchored | BackboneMask,
    Field(discriminator="kind"),
    BeforeValidator(by_kind),
]
Objective = Annotated[Plain | Proximal | ControlVariates, Field(discriminator="kind"), BeforeValidator(by_kind)]
Combine = Annotated[
    Average
    | Momentum
    | Adaptive
    | Nesterov
    | MajorityVote
    | BetaPosterior
    | MeanMask
    | Overlap
    | LeastSquares
    | TrimmedMean
    | Median
    | Krum,
    Field(discriminator="kind"),
    BeforeValidator(by_kind),
]


Robust = TrimmedMean | Median | Krum

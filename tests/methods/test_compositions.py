"""Compositions drawn at random: each is refused with a sentence before anything starts, or trains a model."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.learning.pretrained import PretrainedError
from onebasin.methods.page import PAGES

FAST, SLOW = 150, 2500

CHAINS = (
    "fp32",
    "fp16",
    "int8",
    "none",
    "sign",
    "ternary",
    "error-feedback | top-k 0.1 | sign",
    "momentum-correction | error-feedback | top-k 0.2 | fp32",
    "random-k 0.3 shared=true | uniform 4",
    "random-k 0.3 | qsgd 8",
    "fragment 2 | fp16",
    "small 8 | hadamard | eden 1",
    "low-rank 1 | lloyd 2",
    "mask",
    "mrc 4",
    "threshold",
    "masked-noise 0.02",
    "top-k 0.2 | threshold",
)
RULES = (
    "average", "momentum", "adam", "yogi", "nesterov", "majority-vote", "beta-posterior", "mean-mask", "overlap",
    "least-squares", "trimmed-mean", "median", "krum",
)  # fmt: skip
OPENINGS = (
    '{rounds = 1, uplink = "hadamard | eden 1"}',
    '{rounds = 1, uplink = "sign", downlink = "sign"}',
    '{rounds = 1, uplink = "fp32"}',
    '{rounds = 1, uplink = "masked-noise 0.05"}',
)
CHANGES: dict[str, tuple[str, ...]] = {
    "method.data": ("partitioned", "pooled"),
    "method.start": ("broadcast", "shared-seed", "local"),
    "method.frame": ("none", "weights", "activations", "signatures", "adopt-one"),
    "method.alignment.every_round": ("true",),
    "method.alignment.refine": ("true",),
    "method.alignment.probes": ("public",),
    "method.repair": ("repair", "rescale", "norm-reset"),
    "method.repair_targets": ("probes", "clients"),
    "method.probes": ("noise", "sketch", "public", "generated"),
    "method.parametrization": (
        "dense", "low-rank", "supermask", "sparse-combination", "masked-noise", "anchored", "backbone-mask",
        '{kind = "supermask", kept = "above-zero"}', '{kind = "supermask", kept = "highest"}',
    ),
    "method.objective": ("plain", "proximal", "control-variates"),
    "method.uplink": CHAINS,
    "method.downlink": (*CHAINS, "relay"),
    "method.models": ("fp32", "fp16", "int8", "seeded", "masked"),
    "method.trains": ("all", "sent"),
    "method.opening": OPENINGS,
    "method.combine": RULES,
    "method.norm_bound": ("{limit = 1.0}", '{limit = 100.0, over = "reject"}'),
    "method.privacy": (
        '{clip = 1.0, noise = 0.1, seeding = "run"}',
        '{clip = 1.0, noise = 0.1, seeding = "run", at = "server"}',
    ),
    "method.score": ("mean", "best", "together", "personal", "fine-tuned"),
    "federation.weighting": ("examples", "uniform"),
    "federation.cohort": ("1", "2"),
    "federation.late": ("1",),
    "federation.join_round": ("2",),
    "federation.attack": ("sign-flip", "noise", "scale"),
    "federation.evaluate_every": ("2",),
    "training.optimizer": ("adam", "adamw"),
    "training.momentum": ("0.9",),
    "training.keep_optimizer": ("true",),
    "training.warmup": ("2",),
    "training.warmup_optimizer": ("adam",),
    "task.model.norm": ("batch",),
    "task.public": ("20",),
    "task.later": ("0.3",),
    "task.clients": ("2", "3"),
}  # fmt: skip
"""A setting -> the values that are tried."""

COMMON = (
    "task.dataset=tests.methods.tiny_data:blobs",
    "task.model.hidden=[6]",
    "task.clients=5",
    "federation.rounds=2",
    "training.steps=2",
    "training.batch=16",
    "method.probes.count=16",
    "method.alignment.features=16",
)


@dataclass(frozen=True)
class Composition:
    """A page and its changes."""

    page: str
    changes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page} {' '.join(self.changes)}"


def compositions(count: int, seed: int) -> Iterator[Composition]:
    """Yield every page as it is, then pages with one to three changed settings, `count` in all."""
    draw = random.Random(seed)
    for page in PAGES.names[:count]:
        yield Composition(page, ())
    for _ in range(count - len(PAGES.names)):
        keys = draw.sample(sorted(CHANGES), draw.randint(1, 3))
        yield Composition(draw.choice(PAGES.names), tuple(f"{key}={draw.choice(CHANGES[key])}" for key in keys))


def play(one: Composition, backbone: Path, folder: Path) -> str:
    """Return "trained" or "refused"; `AssertionError` for a run that starts and leaves no model."""
    masked = one.page == "piggyback" or any("backbone-mask" in change for change in one.changes)
    weights = [f"task.weights={backbone}"] if masked else []
    try:
        config = ob.read_config(one.page, [*COMMON, *weights, *one.changes])
        result = ob.run(config, out=folder)
    except (ConfigError, PretrainedError) as error:
        refusal = str(error)
    else:
        require_trained(one, config, result)
        return "trained"
    assert refusal.strip(), f"{one}: refused without a reason"
    assert not folder.exists(), f"{one}: refused after it had started: {refusal}"
    return "refused"


def require_trained(one: Composition, config: ob.RunConfig, result: ob.Run) -> None:
    """Require replies, a model and no round that could not be aggregated."""
    method = config.method
    trained = [record for record in result.history if record["replies"]]
    assert trained, f"{one}: no client replied: {result.history[-1]['failures'][:1]}"
    if method.federated and not method.personal:
        assert result.model is not None, f"{one}: no model: {result.history[-1]['failures'][:1]}"
    reasons = [failure for record in result.history for failure in record["failures"]]
    assert not any("cannot be" in each["reason"] for each in reasons), f"{one}: {reasons[0]}"


def campaign(count: int, seed: int, folder: Path) -> Counter[str]:
    """Play so many compositions; return how many were refused, and how many trained."""
    torch.set_num_threads(1)
    backbone = folder / "backbone"
    ob.run("fedavg", COMMON, out=backbone)
    found = Counter(play(one, backbone, folder / str(number)) for number, one in enumerate(compositions(count, seed)))
    assert min(found["trained"], found["refused"]) > count / 10, found
    return found


def test_compositions_are_refused_beforehand_or_train(tmp_path: Path) -> None:
    campaign(FAST, seed=0, folder=tmp_path)


@pytest.mark.slow
def test_many_compositions_are_refused_beforehand_or_train(tmp_path: Path) -> None:
    campaign(SLOW, seed=1, folder=tmp_path)

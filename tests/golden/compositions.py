"""What is traced: every method's page, and changes to pages that reach what no page uses."""

from collections.abc import Mapping, Sequence

from onebasin.methods.page import PAGES

WEIGHTS = "WEIGHTS"
"""Stands for the directory of a model that was trained beforehand."""

PAGES: Mapping[str, Sequence[str]] = {
    name: (f"task.weights={WEIGHTS}",) if name == "piggyback" else () for name in PAGES.names
}
"""Every method -> its changes beside `COMMON`."""

_BATCH_NORM = "task.model.norm=batch"
_LOCAL = "method.start=local"
_NOISE = "method.probes=noise"
_LEAST_SQUARES = ("method.combine=least-squares", "method.combine.targets=mean", "method.probes.count=64", _NOISE)

VARIANTS: Mapping[str, Sequence[str]] = {
    "shared seed, int8": ("fedavg", "method.start=shared-seed", "method.uplink=int8"),
    "fp16 both ways, batch norm": ("fedavg", "method.uplink=fp16", "method.downlink=fp16", _BATCH_NORM),
    "top-k both ways": (
        "fedavg",
        "method.start=shared-seed",
        "method.uplink=error-feedback | top-k 0.05 | sign",
        "method.downlink=error-feedback | top-k 0.05 | sign",
        _BATCH_NORM,
    ),
    "cohort that is caught up": (
        "fedavg",
        "method.start=shared-seed",
        "method.downlink=top-k 0.05 | sign",
        "federation.cohort=2",
        "federation.rounds=4",
    ),
    "relayed signs": ("fedavg", "method.start=shared-seed", "method.uplink=sign", "method.downlink=relay"),
    "opening": (
        "fedavg",
        "method.start=shared-seed",
        "method.uplink=random-k 0.1 shared=true | uniform 4",
        "method.downlink=random-k 0.1 shared=true | uniform 4",
        'method.opening={rounds = 1, uplink = "hadamard | eden 1", downlink = "hadamard | eden 1"}',
        "method.trains=sent",
    ),
    "fragments with momentum": (
        "fedavgm",
        "method.start=shared-seed",
        "method.uplink=fragment 2 | fp16",
        "method.trains=sent",
    ),
    "own starts, weights": ("fedavg", _LOCAL, "method.frame=weights"),
    "own starts, weights, batch norm, repair": (
        "fedavg",
        _LOCAL,
        "method.frame=weights",
        _BATCH_NORM,
        "method.repair=repair",
        "method.probes.count=64",
    ),
    "own starts, repair by clients": (
        "fedavg",
        _LOCAL,
        "method.frame=weights",
        _BATCH_NORM,
        "method.repair=rescale",
        "method.repair_targets=clients",
        "method.probes.count=64",
    ),
    "own starts, every round, kept momenta": (
        "fedavg",
        _LOCAL,
        "method.frame=weights",
        "method.alignment.every_round=true",
        "training.momentum=0.9",
        "training.keep_optimizer=true",
    ),
    "own starts, activations": ("fedavg", _LOCAL, "method.frame=activations", "method.alignment.refine=true"),
    "own starts, signatures": ("fedavg", _LOCAL, "method.frame=signatures", "training.warmup=2"),
    "own starts, signatures, a late client": (
        "fedavg",
        _LOCAL,
        "method.frame=signatures",
        "federation.late=1",
        "federation.join_round=2",
    ),
    "own starts, least squares": ("fedavg", _LOCAL, "method.frame=weights", *_LEAST_SQUARES),
    "own starts, least squares, experts": (
        "fedavg",
        _LOCAL,
        "method.frame=weights",
        "method.combine=least-squares",
        "method.combine.balance=true",
        "method.combine.distil=3",
        "method.combine.rounds=meetings",
        "method.probes.count=64",
        "method.probes.rank=4",
    ),
    "own starts, naive average": ("fedavg", _LOCAL),
    "own masks": ("fedavg", _LOCAL, "method.frame=weights", "method.models=masked"),
    "seeded models": (
        "fedavg",
        _LOCAL,
        "method.frame=weights",
        "method.models=seeded",
        "method.uplink=top-k 0.2 | uniform 4",
        "method.downlink=top-k 0.2 | uniform 4",
    ),
    "personal scores": ("fedavg", "method.score=personal"),
    "fine-tuned scores": ("fedavg", "method.score=fine-tuned", "federation.evaluate_every=2"),
    "median": ("fedavg", "method.combine=median", "federation.attack=sign-flip", "federation.attack.fraction=0.3"),
    "trimmed mean": (
        "fedavg",
        "method.combine=trimmed-mean",
        "method.combine.trim=0.2",
        "federation.attack=noise",
        "task.clients=5",
    ),
    "krum": ("fedavg", "method.combine=krum", "method.combine.byzantine=1", "task.clients=5"),
    "norm bound": (
        "fedavg",
        "method.norm_bound={limit = 0.1}",
        "federation.attack=scale",
        "federation.attack.strength=50.0",
    ),
    "private at the client": (
        "fedavg",
        "method.start=shared-seed",
        'method.privacy={clip = 1.0, noise = 0.1, seeding = "run"}',
    ),
    "private at the server": (
        "fedavg",
        'method.privacy={clip = 1.0, noise = 0.1, at = "server", seeding = "run"}',
        "federation.weighting=uniform",
    ),
    "dropout and weight decay": ("fedavg", "federation.dropout=0.3", "training.weight_decay=0.01", "training.clip=1.0"),
    "onebasin with batch norm": ("onebasin", _BATCH_NORM, "federation.rounds=3"),
    "onebasin, a late client": ("onebasin", "federation.late=1", "federation.join_round=3", "federation.rounds=4"),
    "scaffold, int8": ("scaffold", "method.uplink=int8", "federation.cohort=2"),
    "neurons' masks": ("fedmask", "method.parametrization.over=neurons"),
    "highest masks": ("fedpm", "method.parametrization.kept=highest"),
    "signed noise, progressive": (
        "fedmrn",
        "method.uplink=masked-noise 0.02 mask=signed noise=sign",
        "method.start=shared-seed",
    ),
}
"""A name -> the page that it begins from, and its changes."""

COMMON = (
    "task.dataset=digits",
    "task.clients=4",
    "task.model.hidden=[8]",
    "federation.rounds=2",
    "training.epochs=1",
    "training.batch=64",
)


def every() -> dict[str, tuple[str, list[str]]]:
    """Return all that is traced: a name -> the method, and its changes."""
    pages = {name: (name, [*COMMON, *changes]) for name, changes in PAGES.items()}
    return pages | {name: (method, [*COMMON, *changes]) for name, (method, *changes) in VARIANTS.items()}

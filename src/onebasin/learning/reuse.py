"""Local phases that were trained before: a phase is a function of its inputs, so none need be trained twice.

Arms of a study that differ in what is done with the clients' models share their first local phases. Where
$ONEBASIN_REUSE names a folder, phases are kept there, under a digest of all that they depend on.
"""

import json
import os
from functools import cache
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from onebasin.core.atomic_write import write_atomically
from onebasin.core.references import outside_sources
from onebasin.core.state import State, StateError
from onebasin.learning.data.examples import Split
from onebasin.learning.local_training import Start, Trained, Training, train_locally
from onebasin.learning.optimizers import optimizer_class

FOLDER = "ONEBASIN_REUSE"


def train_or_recall(
    identity: str, model: nn.Module, start: Start, data: Split, indices: Tensor, recipe: Training, round: int, seed: int
) -> Trained:
    """Return what `train_locally` would, from the folder if it is there; `seconds` of a run then say little.

    identity: names the task (data, partition, model) and the client.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return train_locally(model, start, data, indices, recipe, round, seed)
    path = Path(folder) / f"{_digest(identity, start, indices, recipe, round, seed)}.safetensors"
    known = _read(path)
    if known is not None:
        return known
    trained = train_locally(model, start, data, indices, recipe, round, seed)
    slots = {
        "weights": trained.weights,
        "buffers": trained.buffers,
        "optimizer": trained.optimizer,
        "memory": trained.memory,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, State(slots, {"steps": trained.steps, "loss": trained.loss}).to_bytes())
    return trained


def _read(path: Path) -> Trained | None:
    try:
        kept = State.from_bytes(path.read_bytes())
        slots = kept.slots
        steps, loss = kept.facts["steps"], kept.facts["loss"]
        return Trained(slots["weights"], slots["buffers"], slots["optimizer"], steps, loss, slots["memory"])
    except (OSError, StateError, KeyError):
        return None


def _digest(identity: str, start: Start, indices: Tensor, recipe: Training, round: int, seed: int) -> str:
    digest = blake2b(digest_size=16)
    facts = [identity, recipe.model_dump(mode="json"), round if recipe.lr_decay != 1 else 1, seed]
    facts.append(start.objective.model_dump(mode="json"))
    facts.append(outside_sources([type(start.objective), optimizer_class(recipe.optimizer)]))
    masking = start.masking
    facts += [] if masking is None else [masking.signed, masking.progressive]
    digest.update(json.dumps([*facts, torch.__version__, _code()], sort_keys=True).encode())
    digest.update(indices.numpy().tobytes())
    noise = {} if masking is None else masking.noise
    for tensors in (
        start.weights,
        start.buffers,
        start.optimizer,
        start.correction,
        start.memory,
        start.trainable or {},
        noise,
    ):
        for name, tensor in tensors.items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@cache
def _code() -> str:
    """A digest of the code that phases follow from, so that none of before a change is taken for one of after it."""
    digest = blake2b(digest_size=8)
    package = Path(__file__).parent.parent
    beside = [package / "core" / "seeds.py", package / "codecs" / "stages" / "masked_noise.py"]
    for path in sorted([*(package / "learning").rglob("*.py"), *(package / "networks").glob("*.py"), *beside]):
        digest.update(path.read_bytes())
    return digest.hexdigest()

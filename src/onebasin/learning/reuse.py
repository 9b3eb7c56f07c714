"""Reuse of local phases: the result of a local phase is stored, so that an equal phase need not be trained again.

Arms of a study that differ only in how the server treats the clients' models have equal first local phases. If
$ONEBASIN_REUSE names a folder, results are stored there under a digest of everything that they depend on.
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

FOLDER_VARIABLE = "ONEBASIN_REUSE"


def train_or_reuse(
    identity: str, model: nn.Module, start: Start, data: Split, indices: Tensor, recipe: Training, round: int, seed: int
) -> Trained:
    """Return the result of `train_locally`, from the folder if it is stored there.

    A run that reuses results takes less time than its training; its `seconds` are then not comparable.
    identity: text that identifies the task (data, partition, model, parametrization), the run's seed and the client.
    Other arguments and errors: as in `train_locally`.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return train_locally(model, start, data, indices, recipe, round, seed)
    path = Path(folder) / f"{_digest(identity, start, indices, recipe, round, seed)}.safetensors"
    stored = _read(path)
    if stored is not None:
        return stored
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
    """Return a stored result; None if the file is missing or damaged."""
    try:
        stored = State.from_bytes(path.read_bytes())
        slots = stored.slots
        steps, loss = stored.facts["steps"], stored.facts["loss"]
        return Trained(slots["weights"], slots["buffers"], slots["optimizer"], steps, loss, slots["memory"])
    except (OSError, StateError, KeyError):
        return None


def _digest(identity: str, start: Start, indices: Tensor, recipe: Training, round: int, seed: int) -> str:
    """Return a digest of everything that the result of a local phase depends on, the training code included."""
    digest = blake2b(digest_size=16)
    settings = [identity, recipe.model_dump(mode="json"), round if recipe.lr_decay != 1 else 1, seed]
    settings.append(start.objective.model_dump(mode="json"))
    settings.append(outside_sources([type(start.objective), optimizer_class(recipe.optimizer)]))
    masking = start.masking
    settings += [] if masking is None else [masking.signed, masking.progressive]
    digest.update(json.dumps([*settings, torch.__version__, _code_digest()], sort_keys=True).encode())
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
def _code_digest() -> str:
    """Return a digest of the code that local training runs, so that a result of older code is not reused."""
    digest = blake2b(digest_size=8)
    package = Path(__file__).parent.parent
    others = [package / "core" / "seeds.py", package / "codecs" / "stages" / "masked_noise.py"]
    for path in sorted([*(package / "learning").rglob("*.py"), *(package / "networks").glob("*.py"), *others]):
        digest.update(path.read_bytes())
    return digest.hexdigest()

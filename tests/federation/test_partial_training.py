"""Training only the values that are sent in a round."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import onebasin as ob
from onebasin.codecs.context import CodingContext
from onebasin.codecs.stages.random_k import RandomK
from onebasin.codecs.value_block import ValueBlock
from onebasin.core.seeds import derive
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.local_training import Start, train_locally
from onebasin.networks.weights import buffers_of, clone, parameters_of

MakeConfig = Callable[..., RunConfig]
CHAIN = "random-k 0.1 shared=true spread=tensors | uniform 4"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_values_that_are_not_trained_do_not_change(quick_config: MakeConfig, optimizer: str) -> None:
    settings = ("training.momentum=0.9",) if optimizer == "sgd" else ()
    config = quick_config("fedavg", f"training.optimizer={optimizer}", "training.weight_decay=0.1", *settings)
    task = load_task(config)
    model = task.build_model(0)
    weights = clone(parameters_of(model))
    free = {name: torch.rand(value.shape) < 0.3 for name, value in weights.items()}
    start = Start(weights, clone(buffers_of(model)), trainable=free)
    trained = train_locally(model, start, task.dataset.train, task.parts[0], config.training, 1, 0)
    for name, value in weights.items():
        moved = trained.weights[name] != value
        assert not (moved & ~free[name]).any()
        assert moved[free[name]].float().mean() > 0.5


def test_tensors_send_equally_many_values_and_small_ones_all() -> None:
    block = ValueBlock(((1000,), (10,), (200,)))
    mask = RandomK(share=0.1, shared=True, spread="tensors").mask(block, CodingContext())
    counts = [int(mask[begin:end].sum()) for begin, end in block.bounds]
    assert counts == [56, 10, 55]  # of 121: all 10, then half of the rest each
    assert sum(counts) == 121
    again = RandomK(share=0.1, shared=True, spread="tensors").mask(block, CodingContext(sender=5))
    assert (mask == again).all()
    assert (mask != RandomK(share=0.1, shared=True, spread="tensors").mask(block, CodingContext(round=2))).any()
    everything = RandomK(share=1.0, shared=True, spread="tensors").mask(block, CodingContext())
    assert everything.all()


def test_a_round_changes_only_the_values_selected_for_it(quick_config: MakeConfig, tmp_path: Path) -> None:
    method = {"name": "fedavg", "start": "shared-seed", "uplink": CHAIN, "downlink": CHAIN, "trains": "sent"}
    result = ob.run(quick_config(method, federation={"rounds": 1}), out=tmp_path / "run")
    config = result.config
    before = parameters_of(load_task(config).build_model(derive(config.seed, "init")))
    after = parameters_of(result.model)
    changed = np.concatenate([(after[n] != w).flatten().numpy() for n, w in before.items()])
    shapes = tuple(tuple(w.shape) for w in before.values())
    drawn = RandomK(share=0.1, shared=True, spread="tensors").mask(
        ValueBlock(shapes), CodingContext(int(config.identity(), 16), 1)
    )
    assert not (changed & ~drawn).any()
    assert changed.sum() > 0.3 * drawn.sum()
    assert drawn.sum() == 481


@pytest.mark.parametrize(
    "uplink",
    [
        "fp32",
        "top-k 0.1 | sign",
        "random-k 0.1 | sign",
        "hadamard | sign",
        "small 5 | random-k 0.1 shared=true | sign",
    ],
)
def test_the_values_that_are_sent_must_be_known_beforehand(uplink: str) -> None:
    with pytest.raises(ConfigError, match="places that all clients know beforehand"):
        read_config({"method": {"name": "fedavg", "uplink": uplink, "trains": "sent"}})


@pytest.mark.parametrize("chain", ["fragment 3 | fp16", "error-feedback | random-k 0.1 shared=true | uniform 3"])
def test_chains_with_values_known_beforehand_can_be_trained(
    chain: str, quick_config: MakeConfig, tmp_path: Path
) -> None:
    method = {"name": "fedavg", "start": "shared-seed", "uplink": chain, "trains": "sent"}
    assert ob.run(quick_config(method), out=tmp_path / "run").summary["rounds"] == 3

"""The same federations by other people's implementations: do they end where ours do?

FedAvg, FedProx and SCAFFOLD on the digits (10 clients, Dirichlet(0.3), uniform weights), and DiLoCo (IID, so that all
make as many steps), from equal data, splits, first weights and rates; only the order of batches differs. pfl-research
and torchft run where they are installed (``make bench`` puts 0.6.0 and 0.2.0 into ``.bench/``), Flower's FedAvg
strategy where Flower is (``.venv-flower/bin/python -m benchmarks rivals``).

pfl-research's control variates are means of what was learned, not of gradients: `get_model_difference` is the trained
model less the received one. Added to gradients as SCAFFOLD has it, they push clients apart. So SCAFFOLD is also run
with their sign turned.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import onebasin as ob
from benchmarks.pfl_setup import installed, simulate
from benchmarks.torchft_diloco import Recipe, train
from onebasin.core.seeds import derive
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.metrics import evaluate, loss_of
from onebasin.learning.task import Task

ROUNDS, EPOCHS, BATCH, RATE, MU = 20, 5, 32, 0.05, 0.1
ADAMW = {"lr": 1e-3, "weight_decay": 0.01}
SEEDS = (0, 1, 2)
RoundResult = tuple[float, str]
"""Final test accuracy, and bytes in words."""


def config_of(method: str, seed: int) -> RunConfig:
    if method == "diloco":
        return read_config(
            {
                "seed": seed,
                "task": {"partition": "iid"},
                "method": {"name": "diloco", "start": "shared-seed"},
                "training": {**ADAMW, "batch": BATCH, "epochs": EPOCHS},
                "federation": {"rounds": ROUNDS},
            }
        )
    objective = {"objective": {"kind": "proximal", "mu": MU}} if method == "fedprox" else {}
    return read_config(
        {
            "seed": seed,
            "method": {"name": method, "start": "shared-seed", **objective},
            "training": {"lr": RATE, "batch": BATCH, "epochs": EPOCHS},
            "federation": {"rounds": ROUNDS, "weighting": "uniform"},
        }
    )


def first_model(task: Task, seed: int) -> nn.Module:
    """The model that the run begins with."""
    return task.build_model(derive(seed, "init"))


def ours(method: str, seed: int) -> RoundResult:
    with TemporaryDirectory() as folder:
        summary = ob.run(config_of(method, seed), out=Path(folder) / "run").summary
    return summary["accuracy"]["final"], f"{summary['bytes']['total'] / 1e6:.2f} MB, counted"


def pfl(method: str, seed: int, turned: bool = False) -> RoundResult | None:
    """pfl-research in its SimulatedBackend; None where it is not installed. turned: the sign of control variates is."""
    if not installed("pfl") or method == "diloco" or (turned and method != "scaffold"):
        return None
    from pfl.hyperparam.base import NNTrainHyperParams

    task = load_task(config_of(method, seed))
    module, clients = first_model(task, seed), len(task.parts)
    backend, model = simulate(task, module, torch.Generator().manual_seed(seed), momentum=0.0)
    algorithm, parameters = _pfl_algorithm(method, clients)
    recipe = NNTrainHyperParams(local_num_epochs=EPOCHS, local_learning_rate=RATE, local_batch_size=BATCH)
    with redirect_stdout(io.StringIO()), _control_variates_turned(turned):  # it prints its metrics in every round
        algorithm.run(parameters, backend, model, recipe)
    values = sum(p.numel() for p in module.parameters()) * (2 if method == "scaffold" else 1)
    return evaluate(
        module.eval(), task.dataset.test
    ).accuracy, f"{values * 8 * clients * ROUNDS / 1e6:.2f} MB, computed"


def _pfl_algorithm(method: str, clients: int) -> tuple[Any, Any]:
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.algorithm.fedprox import FedProx, FedProxParams
    from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
    from pfl.data.user_state import InMemoryUserStateStorage

    common = {
        "central_num_iterations": ROUNDS,
        "evaluation_frequency": 10**6,
        "train_cohort_size": clients,
        "val_cohort_size": 0,
    }
    if method == "fedprox":
        return FedProx(), FedProxParams(**common, mu=MU)
    if method == "scaffold":
        kept = InMemoryUserStateStorage()
        options = {"population": clients, "use_gradient_as_control_variate": False, "user_state_storage": kept}
        return SCAFFOLD(), SCAFFOLDParams(**common, **options)
    return FederatedAveraging(), NNAlgorithmParams(**common)


@contextmanager
def _control_variates_turned(turned: bool) -> Iterator[None]:
    """Have pfl-research's local steps see all control variates with the other sign."""
    from pfl.internal.bridge.pytorch import scaffold

    step = scaffold._control_variate_train_step

    def other(*args: Any, **variates: Any) -> None:
        step(*args, **{name: {k: -v for k, v in each.items()} for name, each in variates.items()})

    if turned:
        scaffold._control_variate_train_step = other
    try:
        yield
    finally:
        scaffold._control_variate_train_step = step


def flower(method: str, seed: int) -> RoundResult | None:
    """Flower's FedAvg strategy and loop, over a grid in this process; None where it is not installed."""
    if not installed("flwr") or method != "fedavg":
        return None
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as if a SuperLink had started it
    task = load_task(config_of(method, seed))
    module, clients = first_model(task, seed), len(task.parts)
    draws = torch.Generator().manual_seed(seed)
    crossed = 0

    class InThisProcess(Grid):  # type: ignore[misc]
        """Answers each message at once."""

        run = None

        def set_run(self, run_id: int) -> None: ...

        def create_message(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

        def get_node_ids(self) -> Iterable[int]:
            return range(1, clients + 1)

        def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
            raise NotImplementedError

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
            raise NotImplementedError

        def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> Iterable[Any]:
            nonlocal crossed
            replies = []
            for message in messages:
                client = message.metadata.dst_node_id - 1
                module.load_state_dict(message.content["arrays"].to_torch_state_dict())
                _train(module, task, client, draws)
                content = RecordDict(
                    {"arrays": ArrayRecord(module.state_dict()), "metrics": MetricRecord({"num-examples": 1})}
                )
                crossed += _size(message.content) + _size(content)
                replies.append(Message(content, reply_to=message))
            return replies

    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=clients, min_train_nodes=clients)
    result = strategy.start(InThisProcess(), ArrayRecord(module.state_dict()), num_rounds=ROUNDS)
    module.load_state_dict(result.arrays.to_torch_state_dict())
    return evaluate(module.eval(), task.dataset.test).accuracy, f"{crossed / 1e6:.2f} MB, messages' content"


def torchft(method: str, seed: int) -> RoundResult | None:
    """torchft's DiLoCo, a thread a client; None where it is not installed."""
    if not installed("torchft") or method != "diloco":
        return None
    task = load_task(config_of(method, seed))
    modules = [first_model(task, seed) for _ in task.parts]
    counts = {EPOCHS * math.ceil(len(part) / BATCH) for part in task.parts}
    if len(counts) > 1:
        raise ValueError(f"clients make {sorted(counts)} steps a round; torchft's all make as many")
    crossed = train(task, modules, Recipe(ROUNDS, counts.pop(), BATCH, ADAMW), seed)
    return evaluate(modules[0].eval(), task.dataset.test).accuracy, f"{crossed / 1e6:.2f} MB, counted tensors"


def _train(module: nn.Module, task: Task, client: int, draws: torch.Generator) -> None:
    """Plain SGD on a client's examples."""
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    part, data = task.parts[client], task.dataset.train
    for _ in range(EPOCHS):
        for batch in part[torch.randperm(len(part), generator=draws)].split(BATCH):
            optimizer.zero_grad()
            loss_of(module(data.inputs[batch]), data.targets[batch]).backward()
            optimizer.step()


def _size(content: Any) -> int:
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(content).ByteSize())


def main() -> None:
    torch.set_num_threads(1)
    table = Table(title=f"digits, MLP, {ROUNDS} rounds of {EPOCHS} epochs, 3 seeds")
    for column in ("method", "implementation", "final accuracy, %", "apart from ours", "bytes, both ways"):
        table.add_column(column, justify="left" if column in ("method", "implementation") else "right")
    rivals: dict[str, Callable[[str, int], RoundResult | None]] = {
        "onebasin": ours,
        "pfl-research 0.6": pfl,
        "pfl-research 0.6, sign turned": partial(pfl, turned=True),
        "Flower's strategy": flower,
        "torchft 0.2": torchft,
    }
    for method in ("fedavg", "fedprox", "scaffold", "diloco"):
        reference = math.nan
        for name, play in rivals.items():
            outcomes = [found for seed in SEEDS if (found := play(method, seed))]
            if not outcomes:
                continue
            accuracies = [100 * accuracy for accuracy, _ in outcomes]
            if play is ours:
                reference = fmean(accuracies)
            apart = "" if play is ours else f"{fmean(accuracies) - reference:+.1f}"
            table.add_row(method, name, f"{fmean(accuracies):.1f} ± {stdev(accuracies):.1f}", apart, outcomes[0][1])
    Console().print(table)

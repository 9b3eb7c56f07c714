"""The single-process engine against a bare PyTorch loop and against pfl-research, on the same local steps.

A round: every client starts from the server's weights, trains an epoch, and its weights are averaged. pfl-research is
timed where it is installed.
"""

from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.pfl_setup import installed, simulate
from benchmarks.workload import BATCH, make_config, make_task, ratio, time_in_turn
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.round_loop import in_order
from onebasin.federation.server.server import Server
from onebasin.learning.metrics import loss_of
from onebasin.learning.task import Task
from onebasin.wire.ledger import Ledger


def bare_round(task: Task) -> Callable[[], None]:
    """A round written down as plainly as PyTorch allows."""
    model = task.build_model(0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    inputs, targets = task.dataset.train.inputs, task.dataset.train.targets
    generator = torch.Generator().manual_seed(0)

    def play() -> None:
        nonlocal weights
        sums = {name: torch.zeros_like(value) for name, value in weights.items()}
        for indices in task.parts:
            model.load_state_dict(weights)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            for batch in indices[torch.randperm(len(indices), generator=generator)].split(BATCH):
                loss = loss_of(model(inputs[batch]), targets[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            for name, value in model.state_dict().items():
                sums[name] += value
        weights = {name: value / len(task.parts) for name, value in sums.items()}

    return play


def our_round(task: Task) -> Callable[[], None]:
    """A round of FedAvg in fp32 through messages, ledger and engine."""
    config = make_config(clients=len(task.parts))
    server, engine, ledger = Server(config, task), InProcess(Client(config, task)), Ledger()
    round = 0

    def play() -> None:
        nonlocal round
        round += 1
        orders = server.open(round)
        ledger.charge_orders(round, orders)
        replies = in_order(orders, engine.exchange(orders))
        server.close(_charged(replies, ledger, round))

    return play


def _charged(replies, ledger: Ledger, round: int):  # type: ignore[no-untyped-def]
    for client, reply in replies:
        ledger.charge(round, client, "up", reply)
        yield client, reply


def pfl_round(task: Task) -> Callable[[], None] | None:
    """A round of pfl-research's FederatedAveraging in its SimulatedBackend; None where it is not installed."""
    if not installed("pfl"):
        return None
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.hyperparam.base import NNTrainHyperParams

    backend, model = simulate(task, task.build_model(0), torch.Generator().manual_seed(0), momentum=0.9)
    parameters = NNAlgorithmParams(
        central_num_iterations=1, evaluation_frequency=10**6, train_cohort_size=len(task.parts), val_cohort_size=0
    )
    training = NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.01, local_batch_size=BATCH)
    return lambda: FederatedAveraging().run(parameters, backend, model, training)


def main() -> None:
    torch.set_num_threads(1)
    table = Table(title="a round of FedAvg, LeNet5, 10 steps of 32 a client, one thread")
    for column in ("clients", "bare loop, ms", "onebasin, ms", "pfl 0.6, ms", "onebasin/bare", "onebasin/pfl"):
        table.add_column(column, justify="right")
    for clients, repeats in ((10, 18), (100, 6)):
        task = make_task(clients)
        rounds = {"bare": bare_round(task), "onebasin": our_round(task)}
        pfl = pfl_round(task)
        if pfl:
            rounds["pfl"] = pfl
        seconds = time_in_turn(rounds, repeats)
        table.add_row(
            str(clients),
            *(
                f"{1000 * median(seconds[name]):.0f}" if name in seconds else "-"
                for name in ("bare", "onebasin", "pfl")
            ),
            f"{ratio(seconds['onebasin'], seconds['bare']):.3f}",
            f"{ratio(seconds['onebasin'], seconds['pfl']):.3f}" if pfl else "-",
        )
    Console().print(table)

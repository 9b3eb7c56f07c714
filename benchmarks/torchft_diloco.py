"""DiLoCo as torchft 0.2 has it: its outer loop around ten replicas in threads, whose all-reduce is a mean in memory.

torchft's `Manager` finds replicas over a network and survives their loss; nothing of this is at stake here, so a
stand-in answers for it.
"""

from dataclasses import dataclass
from threading import Barrier, Thread
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.learning.metrics import loss_of
from onebasin.learning.task import Task

OUTER = {"lr": 0.7, "momentum": 0.9, "nesterov": True}


class Group:
    """Where replicas meet: what each brings, until all have seen it."""

    def __init__(self, size: int) -> None:
        self._barrier, self._brought = Barrier(size), [torch.empty(0)] * size
        self.crossed = 0

    def mean(self, rank: int, tensor: Tensor) -> Tensor:
        """Return the mean of what all bring."""
        self._brought[rank] = tensor
        self._barrier.wait()
        found = torch.stack(self._brought).mean(0)
        if rank == 0:  # each sends as much to a server as it gets from there
            self.crossed += 2 * sum(each.numel() * each.element_size() for each in self._brought)
        self._barrier.wait()
        return found

    def leave(self) -> None:
        """Have nobody wait for one who failed."""
        self._barrier.abort()


class Member:
    """What torchft asks of a manager, for one replica of a group in which nobody fails."""

    _use_async_quorum = False

    def __init__(self, group: Group, rank: int) -> None:
        self._group, self._rank, self._commits = group, rank, 0

    def allreduce(self, tensor: Tensor, should_quantize: bool = False) -> "Member":
        tensor.copy_(self._group.mean(self._rank, tensor))
        return self

    def wait(self) -> None: ...

    def start_quorum(self) -> None: ...

    def should_commit(self) -> bool:
        self._commits += 1
        return True

    def current_step(self) -> int:
        return self._commits

    def register_state_dict_fn(self, *_: Any) -> None: ...

    def allow_state_dict_read(self) -> None: ...

    def disallow_state_dict_read(self) -> None: ...


@dataclass(frozen=True)
class Recipe:
    """steps: that each replica makes in a round. inner: AdamW's settings."""

    rounds: int
    steps: int
    batch: int
    inner: dict[str, float]


def train(task: Task, modules: list[nn.Module], recipe: Recipe, seed: int) -> int:
    """Train replicas that begin alike, one a client; return the bytes that crossed."""
    group = Group(len(modules))
    failed: list[BaseException] = []

    def replica(rank: int) -> None:
        try:
            _play(task, rank, modules[rank], Member(group, rank), recipe, seed)
        except BaseException as error:
            failed.append(error)
            group.leave()

    threads = [Thread(target=replica, args=(rank,)) for rank in range(len(modules))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return group.crossed


def _play(task: Task, client: int, module: nn.Module, member: Member, recipe: Recipe, seed: int) -> None:
    from torchft.local_sgd import DiLoCo

    inner = torch.optim.AdamW(module.parameters(), **recipe.inner)
    outer = torch.optim.SGD(module.parameters(), **OUTER)
    draws = torch.Generator().manual_seed(seed * len(task.parts) + client)
    part, data, left = task.parts[client], task.dataset.train, recipe.rounds * recipe.steps
    module.train()
    with DiLoCo(member, [module], inner, outer, sync_every=recipe.steps):
        while left:
            for chosen in part[torch.randperm(len(part), generator=draws)].split(recipe.batch)[:left]:
                inner.zero_grad()
                loss_of(module(data.inputs[chosen]), data.targets[chosen]).backward()
                inner.step()
                left -= 1

"""Partitions of a training split over clients. Each kind is one function of the data set and a seeded generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from onebasin.core.references import FactoryError, resolve
from onebasin.core.registry import reference_of
from onebasin.learning.data.examples import Dataset

Indices = npt.NDArray[np.int64]

PARTITIONS: Mapping[str, str] = MappingProxyType(
    {
        "iid": "random shares of equal size",
        "dirichlet": "each class divided by Dirichlet(alpha=0.3): skewed labels and sizes",
        "classes-per-client": "classes=2 labels per client, each class divided evenly among its clients",
        "shards": "sorted by label, cut into equal shards, shards=2 per client",
        "owner": "one client per owner (a person, a role) with at least minimum=0 examples",
        "quantity": "sizes by Dirichlet(alpha=0.5), labels as in the whole data set",
        "subsets": "a random fraction=0.5 of all examples per client: parts overlap",
        "exclusive": "only the last client has the last classes=1; the other classes are divided evenly",
        "own": "no examples are assigned: every machine has its own (engine=flower)",
    }
)

# With many clients and a small alpha, nearly every draw leaves some client empty; the last draw is then repaired.
_MAX_DRAWS = 100


class PartitionError(ValueError):
    """A partition cannot be made. The message names the option, its value and what was expected."""


def partition(kind: str, dataset: Dataset, clients: int | None, seed: int, **options: Any) -> list[Tensor]:
    """Assign the training examples to clients. Returns, per client, sorted int64 indices [n_client] into `train`.

    Parts are disjoint (except for `subsets`), none is empty (except for `own`, where all are), and every kind except
    `owner`, `subsets` and `own` assigns all examples. Equal arguments give equal parts.
    kind: a key of `PARTITIONS`.
    clients: number of clients; None or 0, for `owner` only, means one client per owner.
    seed: 0 or more.
    options: the keyword arguments of the function of that kind, such as alpha for `dirichlet`.
    Raises PartitionError for an unknown kind or option, a value out of range, or more clients than examples.
    Sources: `shards` McMahan et al. 2017, section 3; `dirichlet` Yurochkin et al. 2019, section 4 (by class over
    clients); `quantity` Li et al. 2022, section 4.3.
    """
    assign = partition_function(kind)
    known = [name for name, p in inspect.signature(assign).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise PartitionError(f"partition {kind!r} has no option {name!r}; {takes}")
    if seed < 0:
        raise PartitionError(f"seed: {seed}; expected 0 or more")
    if kind != "owner" or clients:
        _check_clients(clients, None if kind == "own" else len(dataset.train))
    rng = np.random.default_rng(seed)
    if kind in _KINDS:
        parts = assign(dataset, clients or 0, rng, **options)
    else:
        try:
            returned = assign(dataset, clients or 0, rng, **options)
        except Exception as error:  # a user's function may raise anything
            raise PartitionError(f"partition {kind!r} cannot be called: {type(error).__name__}: {error}") from error
        parts = _checked(kind, returned, clients or 0, len(dataset.train))
    return [torch.from_numpy(np.sort(part)) for part in parts]


def partition_function(kind: str) -> Callable[..., list[Indices]]:
    """Return the function of a kind: one of this file, or what ``package.module:function`` names.

    It is called with the data set, the number of clients (0 where it is left out), a numpy generator and options by
    keyword, and returns one array of int64 indices [n_client] for each client. PartitionError for an unknown kind.
    """
    if kind in _KINDS:
        return _KINDS[kind]
    reference = reference_of("partition", kind)
    if reference is None:
        raise PartitionError(
            f"partition: {kind!r} is unknown; expected one of {', '.join(_KINDS)}, or package.module:function"
        )
    try:
        found = resolve(reference)
    except FactoryError as error:
        raise PartitionError(f"partition: {error}") from None
    if not isinstance(found, FunctionType):
        raise PartitionError(f"partition: {reference!r} is a {type(found).__name__}; expected a function")
    return found


def _checked(kind: str, parts: object, clients: int, examples: int) -> list[Indices]:
    """Return what a function from outside returned, as int64 arrays. PartitionError where it is no partition."""
    try:
        arrays = [np.asarray(part) for part in parts]  # type: ignore[attr-defined]
    except TypeError:
        raise PartitionError(
            f"partition {kind!r} returned a {type(parts).__name__}; expected arrays of indices"
        ) from None
    if clients and len(arrays) != clients:
        raise PartitionError(f"partition {kind!r} returned {len(arrays)} parts; expected {clients}, one per client")
    for client, part in enumerate(arrays):
        if part.ndim != 1 or not len(part) or not np.issubdtype(part.dtype, np.integer):
            raise PartitionError(
                f"partition {kind!r} gave client {client} {part.dtype} {list(part.shape)}; expected integer indices [n]"
            )
        if part.min() < 0 or part.max() >= examples:
            raise PartitionError(
                f"partition {kind!r} gave client {client} indices from {part.min()} to {part.max()}; expected 0 to "
                f"{examples - 1}"
            )
    return [part.astype(np.int64) for part in arrays]


def holdings(dataset: Dataset, parts: Sequence[Tensor]) -> list[list[int]]:
    """Count training examples per client and class, [client][class]; for sequences, per client only, [client][1]."""
    if dataset.sequence:
        return [[len(part)] for part in parts]
    targets = dataset.train.targets
    return [torch.bincount(targets[part], minlength=dataset.classes).tolist() for part in parts]


def iid(dataset: Dataset, clients: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle the examples and split them into parts whose sizes differ by at most one."""
    return np.array_split(rng.permutation(len(dataset.train)), clients)


def dirichlet(dataset: Dataset, clients: int, rng: np.random.Generator, *, alpha: float = 0.3) -> list[Indices]:
    """Divide each class over the clients in proportions drawn from Dirichlet(alpha).

    A draw that leaves a client empty is repeated, up to 100 draws. In the last draw, each empty client takes one
    example from the largest client (the first of equal ones).
    """
    _check_alpha(alpha)
    labels = _labels(dataset, "dirichlet")
    by_class = [np.flatnonzero(labels == label) for label in range(dataset.classes)]

    def draw() -> list[Indices]:
        pieces = [
            _split_by_proportions(rng.permutation(members), rng.dirichlet([alpha] * clients)) for members in by_class
        ]
        return [np.concatenate(of_client) for of_client in zip(*pieces, strict=True)]

    return _redraw_if_empty(draw)


def classes_per_client(dataset: Dataset, clients: int, rng: np.random.Generator, *, classes: int = 2) -> list[Indices]:
    """Give each client `classes` labels, and divide each label's examples evenly among its clients.

    Each client draws from the labels that have the fewest clients so far, so that labels have nearly equal numbers of
    clients, and no label is left over if clients * classes >= labels.
    """
    labels = _labels(dataset, "classes-per-client")
    present = np.unique(labels)
    if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= len(present):
        raise PartitionError(
            f"classes: {classes!r}; expected a whole number from 1 to {len(present)}, the data's classes"
        )
    if clients * classes < len(present):
        raise PartitionError(
            f"clients: {clients} with classes={classes} each hold {clients * classes} of {len(present)} classes; "
            f"expected at least {-(-len(present) // classes)} clients, so that no example is left over"
        )
    clients_of: list[list[int]] = [[] for _ in present]
    for client in range(clients):
        counts = np.array([len(assigned) for assigned in clients_of])
        fewest = np.lexsort((rng.random(len(present)), counts))[:classes]
        for index in fewest:
            clients_of[index].append(client)
    pieces: list[list[Indices]] = [[] for _ in range(clients)]
    for label, assigned in zip(present, clients_of, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        for client, piece in zip(assigned, np.array_split(members, len(assigned)), strict=True):
            pieces[client].append(piece)
    parts = [np.concatenate(p) for p in pieces]
    if any(len(part) == 0 for part in parts):
        raise PartitionError(
            f"clients: {clients}; too many for the examples of some classes: a client would hold nothing"
        )
    return parts


def shards(dataset: Dataset, clients: int, rng: np.random.Generator, *, shards: int = 2) -> list[Indices]:
    """Sort by label, split into clients * shards nearly equal pieces, and give each client `shards` random pieces."""
    labels = _labels(dataset, "shards")
    if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
        raise PartitionError(f"shards: {shards!r}; expected a whole number of at least 1")
    if clients * shards > len(labels):
        raise PartitionError(
            f"shards: {shards} for each of {clients} clients is {clients * shards}; "
            f"expected at most one an example, {len(labels)}"
        )
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(by_label, clients * shards)
    assignment = rng.permutation(len(pieces)).reshape(clients, shards)
    return [np.concatenate([pieces[index] for index in row]) for row in assignment]


def owner(dataset: Dataset, clients: int, rng: np.random.Generator, *, minimum: int = 0) -> list[Indices]:
    """Make one client per owner that has at least `minimum` training examples, in the order of the owners.

    clients: if above 0, so many owners are drawn at random.
    """
    if dataset.train.owners is None:
        raise PartitionError(f"partition 'owner': {dataset.name} has no owners; it works on har and shakespeare")
    if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 0:
        raise PartitionError(f"minimum: {minimum!r}; expected a whole number of at least 0")
    owners = dataset.train.owners.numpy()
    sizes = np.bincount(owners, minlength=len(dataset.owner_names))
    eligible = np.flatnonzero(sizes >= max(1, minimum))
    if len(eligible) == 0:
        raise PartitionError(f"minimum: {minimum}; expected at most {sizes.max()}, the most that one owner has")
    if clients > len(eligible):
        raise PartitionError(
            f"clients: {clients}; expected at most {len(eligible)}, "
            f"the owners in {dataset.name} with at least {max(1, minimum)} training examples"
        )
    chosen = np.sort(rng.choice(eligible, clients, replace=False)) if clients else eligible
    return [np.flatnonzero(owners == index) for index in chosen]


def quantity(dataset: Dataset, clients: int, rng: np.random.Generator, *, alpha: float = 0.5) -> list[Indices]:
    """Give random examples in sizes drawn from Dirichlet(alpha). Empty parts are handled as in `dirichlet`."""
    _check_alpha(alpha)

    def draw() -> list[Indices]:
        return _split_by_proportions(rng.permutation(len(dataset.train)), rng.dirichlet([alpha] * clients))

    return _redraw_if_empty(draw)


def subsets(dataset: Dataset, clients: int, rng: np.random.Generator, *, fraction: float = 0.5) -> list[Indices]:
    """Draw a random fraction of the examples for each client independently. Parts overlap, for models to be merged."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 < fraction <= 1:
        raise PartitionError(f"fraction: {fraction!r}; expected a number above 0, at most 1")
    size = max(1, round(fraction * len(dataset.train)))
    return [rng.choice(len(dataset.train), size, replace=False) for _ in range(clients)]


def exclusive(dataset: Dataset, clients: int, rng: np.random.Generator, *, classes: int = 1) -> list[Indices]:
    """Give the last `classes` classes to the last client only, and equal random shares of the others to all clients."""
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 < classes < dataset.classes:
        raise PartitionError(f"classes: {classes!r}; expected 1 to {dataset.classes - 1}")
    labels = _labels(dataset, "exclusive")
    own = labels >= dataset.classes - classes
    parts = np.array_split(rng.permutation(np.flatnonzero(~own)), clients)
    return [*parts[:-1], np.concatenate([parts[-1], np.flatnonzero(own)])]


def own(dataset: Dataset, clients: int, rng: np.random.Generator) -> list[Indices]:
    """Assign no examples: the clients have their own data on their machines."""
    return [np.empty(0, np.int64)] * clients


_KINDS: Mapping[str, Callable[..., list[Indices]]] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "classes-per-client": classes_per_client,
    "shards": shards,
    "owner": owner,
    "quantity": quantity,
    "subsets": subsets,
    "exclusive": exclusive,
    "own": own,
}


def _split_by_proportions(members: Indices, proportions: npt.NDArray[np.float64]) -> list[Indices]:
    ends = np.cumsum(proportions)[:-1] * len(members)
    return np.split(members, ends.astype(np.int64))


def _redraw_if_empty(draw: Callable[[], list[Indices]]) -> list[Indices]:
    for _ in range(_MAX_DRAWS):
        parts = draw()
        if all(len(part) for part in parts):
            return parts
    for index, part in enumerate(parts):
        if len(part) == 0:
            largest = max(range(len(parts)), key=lambda other: len(parts[other]))
            parts[index], parts[largest] = parts[largest][-1:], parts[largest][:-1]
    return parts


def _labels(dataset: Dataset, kind: str) -> Indices:
    if dataset.sequence:
        raise PartitionError(
            f"partition {kind!r} deals by label, and {dataset.name} has a target at every position; "
            "expected iid, owner or quantity"
        )
    labels: Indices = dataset.train.targets.numpy()
    return labels


def _check_alpha(alpha: float) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e9:
        raise PartitionError(f"alpha: {alpha!r}; expected a number above 0, and at most 1e9")


def _check_clients(clients: int | None, examples: int | None) -> None:
    if isinstance(clients, bool) or not isinstance(clients, int) or clients < 1:
        raise PartitionError(f"clients: {clients!r}; expected a whole number of at least 1")
    if examples is not None and clients > examples:
        raise PartitionError(f"clients: {clients}; expected at most {examples}, one for each training example")

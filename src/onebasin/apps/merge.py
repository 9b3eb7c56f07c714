"""Merging models that lie in files: what `onebasin merge` does, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor, nn

from onebasin.alignment.cycle_consistent import refine
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.interpolation import Line, lines_to_mean
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.merging import align, average, shares
from onebasin.alignment.model_selection import choose
from onebasin.alignment.models import AlignmentError, State, check_model
from onebasin.alignment.repair import repair, restore, statistics
from onebasin.alignment.similarity import likeness, mean_likeness
from onebasin.core.atomic_write import write_atomically
from onebasin.learning.data.examples import Dataset, Split
from onebasin.learning.metrics import evaluate
from onebasin.report.merge_tables import likeness_table, ways_table
from onebasin.results.model_files import model_and_data, read_probes, read_state
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.spec import PermutationSpec

WAYS = ("average", "repair", "rescale", "norm-reset", "least-squares")
MOST_TESTED = 5000
MOST_GROUPS = 4


@dataclass(frozen=True)
class Request:
    """What the command was asked.

    files: .safetensors files, or run directories, which know their model and data. data: a data set by name or factory.
    inputs: unlabelled examples in a .npy file.
    """

    files: Sequence[Path]
    model: str | None
    out: Path
    data: str | None = None
    inputs: Path | None = None
    weights: Sequence[float] | None = None
    way: str | None = None
    refined: bool = False
    picture: Path | None = None


def merge_files(request: Request) -> None:
    """Merge, print what was found, write the file and draw. Errors: ValueError, OSError; then nothing was written."""
    console = Console()
    model, dataset = model_and_data(request.files, request.model, request.data)
    files = [path / "model.safetensors" if path.is_dir() else path for path in request.files]
    states = [read_state(path, model) for path in files]
    probes = read_probes(dataset, request.inputs)
    if request.way not in (None, *WAYS):
        raise AlignmentError(f"--way: {request.way!r}; expected one of {', '.join(WAYS)}")
    share = shares(len(states), request.weights)
    spec = find_permutations(model, probes[:2])
    for path, state in zip(files, states, strict=True):
        check_model(spec, state, str(path))
    console.print(str(spec), highlight=False, markup=False)
    with console.status("matching neurons"):
        perms = align(spec, states, share)
        if request.refined:
            perms = refine(spec, states, perms).perms
    aligned = [spec.apply(state, p) for state, p in zip(states, perms, strict=True)]
    alike = {"before": mean_likeness(spec, states), "after": mean_likeness(spec, aligned)}
    shapes = {name: list(spec.shape(name)) for name in spec.groups}
    console.print(likeness_table(shapes, alike))
    with console.status("merging in every way"):
        chosen, candidates = _candidates(model, spec, aligned, share, probes, request.way)
        scores = _scores(model, states, candidates, dataset)
    console.print(ways_table(scores, chosen))
    facts = {
        "files": [path.name for path in request.files],
        "groups": shapes,
        "likeness": alike,
        "chosen": chosen,
        "ways": scores,
    }
    write_atomically(request.out, safetensors.torch.save(_plain(candidates[chosen][0]), {"onebasin": "merged"}))
    console.print(f"merged ({chosen}): {request.out}", soft_wrap=True)
    picture = request.picture or request.out.with_suffix(".png")
    if dataset is not None:
        with console.status("walking from model to model"):
            lines = _walks(model, states, aligned, dataset.test, probes)
        facts["lines"] = {name: [_facts_of(line) for line in each] for name, each in lines.items()}
        _draw_lines(lines, request.files, picture)
        console.print(f"loss between the models: {picture}", soft_wrap=True)
    neurons = picture.with_name(f"{picture.stem}-neurons.png")
    _draw_neurons(spec, states, aligned, neurons)
    console.print(f"neurons before and after: {neurons}", soft_wrap=True)
    told = request.out.with_suffix(".json")
    write_atomically(told, json.dumps(facts, indent=1).encode())
    console.print(f"all figures: {told}", soft_wrap=True)


def _candidates(
    model: nn.Module,
    spec: PermutationSpec,
    aligned: list[dict[str, Tensor]],
    share: Sequence[float],
    probes: Tensor,
    way: str | None,
) -> tuple[str, dict[str, tuple[dict[str, Tensor], float]]]:
    """The way that is taken, and every candidate with its disagreement from the models together.

    Half of the probes serve to fit, the others to judge.
    """
    fitting, judging = probes[::2], probes[1::2]
    mean = average(aligned, share)
    made: dict[str, State] = {"average": mean}
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    for name in WAYS[1:]:
        if name == "least-squares":
            made[name] = least_squares(model, aligned, fitting, share)
        elif name != "norm-reset" or normalised:
            made[name] = repair(model, mean, aligned, fitting, share, method=name, spec=spec)  # type: ignore[arg-type]
    if way is not None and way not in made:
        raise AlignmentError(f"--way: {way!r}, but the model has no BatchNorm; expected one of {', '.join(made)}")
    said = [forward(model, state, judging) * part for state, part in zip(aligned, share, strict=True)]
    best, scores = choose(model, made, judging, torch.stack(said).sum(0))
    return way or best, {name: (dict(made[name]), scores[name]) for name in made}


def _scores(
    model: nn.Module,
    states: Sequence[State],
    candidates: dict[str, tuple[dict[str, Tensor], float]],
    dataset: Dataset | None,
) -> dict[str, dict[str, float]]:
    """For each model and candidate: its disagreement in nats, its accuracy and loss, as far as they are known."""

    def tested(state: State) -> dict[str, float]:
        if dataset is None:
            return {}
        model.load_state_dict(dict(state))
        score = evaluate(model, dataset.test)
        return {"accuracy": score.accuracy, "loss": score.loss}

    alone = {f"model {number}": tested(state) for number, state in enumerate(states, start=1)}
    merged = {name: {"disagreement": score, **tested(state)} for name, (state, score) in candidates.items()}
    return alone | merged


def _walks(
    model: nn.Module, states: Sequence[State], aligned: Sequence[State], test: Split, probes: Tensor
) -> dict[str, list[Line]]:
    """The lines between the models as they were, aligned, and (for two) aligned and repaired at each point."""
    some = Split(test.inputs[:MOST_TESTED], test.targets[:MOST_TESTED])

    def measure(state: State, place: float) -> tuple[float, float]:
        model.load_state_dict(dict(state))
        score = evaluate(model, some)
        return score.loss, score.accuracy

    walks = {"as they were": lines_to_mean(states, measure), "aligned": lines_to_mean(aligned, measure)}
    if len(states) == 2:
        first, second = (statistics(model, state, probes) for state in aligned)

        def repaired(state: State, place: float) -> tuple[float, float]:
            if place in (0.0, 1.0):
                return measure(state, place)
            wanted = {name: (1 - place) * first[name] + place * second[name] for name in first}
            return measure(restore(model, state, wanted, probes), place)

        walks["aligned and repaired"] = lines_to_mean(aligned, repaired)
    return walks


def _facts_of(line: Line) -> dict[str, Any]:
    return {**asdict(line), "barrier": line.barrier}


def _draw_lines(lines: dict[str, list[Line]], files: Sequence[Path], picture: Path) -> None:
    from onebasin.report.figures import save_png
    from onebasin.report.interpolation import paths_figure

    ends = (files[0].stem, files[1].stem) if len(files) == 2 else ("each model", "their mean")
    save_png(paths_figure({name: [asdict(line) for line in each] for name, each in lines.items()}, ends), picture)


def _draw_neurons(spec: PermutationSpec, states: Sequence[State], aligned: Sequence[State], picture: Path) -> None:
    """The first two models' neurons, of the first groups that are not within others."""
    from onebasin.report.figures import save_png
    from onebasin.report.interpolation import neurons_figure

    shown = [group for group in spec.groups if not spec.groups[group].within][:MOST_GROUPS]
    if shown:
        before, after = likeness(spec, states[0], states[1]), likeness(spec, aligned[0], aligned[1])
        save_png(neurons_figure({group: (before[group], after[group]) for group in shown}), picture)


def _plain(state: State) -> dict[str, Tensor]:
    """Copies that share no memory, as the file format asks."""
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}

"""Merging models in files: what `onebasin merge` does, step by step."""

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
from onebasin.alignment.models import AlignmentError, StateDict, check_model
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
MAX_LINE_EXAMPLES = 5000
"""The number of test examples on which the loss between models is measured, at most."""
MAX_GROUPS_SHOWN = 4
"""The number of groups whose neurons are drawn, at most."""


@dataclass(frozen=True)
class MergeRequest:
    """The arguments of the command.

    files: .safetensors files, or run directories, which know their model and data.
    model: ``package.module:factory``, or the name of a built-in model; None if all files are run directories.
    out: the file to write.
    data: a data set, by name or factory; None for none.
    inputs: a .npy file with unlabelled examples; None for none.
    weights: of the models; None for equal ones.
    way: one of `WAYS`; None for the one with the smallest disagreement.
    refined: whether to optimise all permutations jointly.
    picture: the file of the picture; None for the name of `out` with .png.
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


def merge_files(request: MergeRequest) -> None:
    """Align and merge models, print tables, and write the merged model, pictures and all figures as JSON.

    Raises ValueError or OSError if an argument or a file is wrong; then nothing is written.
    """
    console = Console()
    model, dataset = model_and_data(request.files, request.model, request.data)
    files = [path / "model.safetensors" if path.is_dir() else path for path in request.files]
    states = [read_state(path, model) for path in files]
    probes = read_probes(dataset, request.inputs)
    if request.way not in (None, *WAYS):
        raise AlignmentError(f"--way: {request.way!r}; expected one of {', '.join(WAYS)}")
    normalised_weights = shares(len(states), request.weights)
    spec = find_permutations(model, probes[:2])
    for path, state in zip(files, states, strict=True):
        check_model(spec, state, str(path))
    console.print(str(spec), highlight=False, markup=False)
    with console.status("matching neurons"):
        perms = align(spec, states, normalised_weights)
        if request.refined:
            perms = refine(spec, states, perms).perms
    aligned = [spec.apply(state, p) for state, p in zip(states, perms, strict=True)]
    similarity = {"before": mean_likeness(spec, states), "after": mean_likeness(spec, aligned)}
    shapes = {name: list(spec.shape(name)) for name in spec.groups}
    console.print(likeness_table(shapes, similarity))
    with console.status("merging in every way"):
        chosen, candidates = _candidates(model, spec, aligned, normalised_weights, probes, request.way)
        scores = _scores(model, states, candidates, dataset)
    console.print(ways_table(scores, chosen))
    facts = {
        "files": [path.name for path in request.files],
        "groups": shapes,
        "likeness": similarity,
        "chosen": chosen,
        "ways": scores,
    }
    write_atomically(request.out, safetensors.torch.save(_plain(candidates[chosen][0]), {"onebasin": "merged"}))
    console.print(f"merged ({chosen}): {request.out}", soft_wrap=True)
    picture = request.picture or request.out.with_suffix(".png")
    if dataset is not None:
        with console.status("walking from model to model"):
            lines = _lines(model, states, aligned, dataset.test, probes)
        facts["lines"] = {name: [_facts_of(line) for line in each] for name, each in lines.items()}
        _draw_lines(lines, request.files, picture)
        console.print(f"loss between the models: {picture}", soft_wrap=True)
    neurons = picture.with_name(f"{picture.stem}-neurons.png")
    _draw_neurons(spec, states, aligned, neurons)
    console.print(f"neurons before and after: {neurons}", soft_wrap=True)
    figures = request.out.with_suffix(".json")
    write_atomically(figures, json.dumps(facts, indent=1).encode())
    console.print(f"all figures: {figures}", soft_wrap=True)


def _candidates(
    model: nn.Module,
    spec: PermutationSpec,
    aligned: list[dict[str, Tensor]],
    weights: Sequence[float],
    probes: Tensor,
    way: str | None,
) -> tuple[str, dict[str, tuple[dict[str, Tensor], float]]]:
    """Return the chosen way of merging, and the state and the disagreement of every candidate.

    Half of the probe inputs are used to fit candidates; on the other half, they are compared with the mean outputs of
    the models.
    way: the one to choose; None for the candidate with the smallest disagreement.
    """
    fitting, judging = probes[::2], probes[1::2]
    mean = average(aligned, weights)
    candidates: dict[str, StateDict] = {"average": mean}
    has_batchnorm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    for name in WAYS[1:]:
        if name == "least-squares":
            candidates[name] = least_squares(model, aligned, fitting, weights)
        elif name != "norm-reset" or has_batchnorm:
            repaired = repair(model, mean, aligned, fitting, weights, method=name, spec=spec)  # type: ignore[arg-type]
            candidates[name] = repaired
    if way is not None and way not in candidates:
        raise AlignmentError(f"--way: {way!r}, but the model has no BatchNorm; expected one of {', '.join(candidates)}")
    outputs = [forward(model, state, judging) * weight for state, weight in zip(aligned, weights, strict=True)]
    best, scores = choose(model, candidates, judging, torch.stack(outputs).sum(0))
    return way or best, {name: (dict(candidates[name]), scores[name]) for name in candidates}


def _scores(
    model: nn.Module,
    states: Sequence[StateDict],
    candidates: dict[str, tuple[dict[str, Tensor], float]],
    dataset: Dataset | None,
) -> dict[str, dict[str, float]]:
    """Return, for each model and candidate, its disagreement in nats, and accuracy and loss if there is test data."""

    def evaluated(state: StateDict) -> dict[str, float]:
        if dataset is None:
            return {}
        model.load_state_dict(dict(state))
        score = evaluate(model, dataset.test)
        return {"accuracy": score.accuracy, "loss": score.loss}

    alone = {f"model {number}": evaluated(state) for number, state in enumerate(states, start=1)}
    merged = {name: {"disagreement": score, **evaluated(state)} for name, (state, score) in candidates.items()}
    return alone | merged


def _lines(
    model: nn.Module, states: Sequence[StateDict], aligned: Sequence[StateDict], test: Split, probes: Tensor
) -> dict[str, list[Line]]:
    """Return loss and accuracy on the lines between the models: unaligned, aligned, and aligned and repaired.

    With more than two models, these are the lines from each of them to their mean, and none is repaired.
    """
    examples = Split(test.inputs[:MAX_LINE_EXAMPLES], test.targets[:MAX_LINE_EXAMPLES])

    def measure(state: StateDict, position: float) -> tuple[float, float]:
        model.load_state_dict(dict(state))
        score = evaluate(model, examples)
        return score.loss, score.accuracy

    lines = {"as they were": lines_to_mean(states, measure), "aligned": lines_to_mean(aligned, measure)}
    if len(states) == 2:
        first, second = (statistics(model, state, probes) for state in aligned)

        def measure_repaired(state: StateDict, position: float) -> tuple[float, float]:
            if position in (0.0, 1.0):
                return measure(state, position)
            targets = {name: (1 - position) * first[name] + position * second[name] for name in first}
            return measure(restore(model, state, targets, probes), position)

        lines["aligned and repaired"] = lines_to_mean(aligned, measure_repaired)
    return lines


def _facts_of(line: Line) -> dict[str, Any]:
    return {**asdict(line), "barrier": line.barrier}


def _draw_lines(lines: dict[str, list[Line]], files: Sequence[Path], picture: Path) -> None:
    from onebasin.report.figures import save_png
    from onebasin.report.interpolation import paths_figure

    ends = (files[0].stem, files[1].stem) if len(files) == 2 else ("each model", "their mean")
    save_png(paths_figure({name: [asdict(line) for line in each] for name, each in lines.items()}, ends), picture)


def _draw_neurons(
    spec: PermutationSpec, states: Sequence[StateDict], aligned: Sequence[StateDict], picture: Path
) -> None:
    """Draw the similarity of the neurons of the first two models, before and after, for groups that are not nested."""
    from onebasin.report.figures import save_png
    from onebasin.report.interpolation import neurons_figure

    shown = [group for group in spec.groups if not spec.groups[group].within][:MAX_GROUPS_SHOWN]
    if shown:
        before, after = likeness(spec, states[0], states[1]), likeness(spec, aligned[0], aligned[1])
        save_png(neurons_figure({group: (before[group], after[group]) for group in shown}), picture)


def _plain(state: StateDict) -> dict[str, Tensor]:
    """Return copies that share no memory, as the file format requires."""
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}

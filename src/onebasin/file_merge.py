"""Merging models that lie in files: what `onebasin merge` does, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from onebasin.alignment.choosing import choose
from onebasin.alignment.cycle_consistent import refine
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.likeness import likeness, mean_likeness
from onebasin.alignment.merging import align, average, shares
from onebasin.alignment.models import AlignmentError, State, check_model
from onebasin.alignment.paths import Line, lines_to_mean
from onebasin.alignment.repair import repair, restore, statistics
from onebasin.alignment.running import forward
from onebasin.durable import write_whole
from onebasin.reading import read_config
from onebasin.results.run_directory import RunDirectory
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.spec import PermutationSpec
from onebasin.tasks.dataset import Dataset, load_dataset
from onebasin.tasks.examples import Split
from onebasin.tasks.factory import build
from onebasin.tasks.metrics import evaluate
from onebasin.tasks.models import MODELS, build_model

WAYS = ("average", "repair", "rescale", "norm-reset", "least-squares")
MOST_PROBES = 1000
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
    model, dataset = _model_and_data(request)
    files = [path / "model.safetensors" if path.is_dir() else path for path in request.files]
    states = [read_state(path, model) for path in files]
    probes = _probes(dataset, request.inputs)
    if probes is None:
        raise AlignmentError("neither --data nor --inputs: one of them is needed, to trace the model with examples")
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
    console.print(_likeness_table(spec, alike))
    with console.status("merging in every way"):
        chosen, candidates = _candidates(model, spec, aligned, share, probes, request.way)
        scores = _scores(model, states, candidates, dataset)
    console.print(_candidates_table(scores, chosen))
    facts = {
        "files": [path.name for path in request.files],
        "groups": {name: list(spec.shape(name)) for name in spec.groups},
        "likeness": alike,
        "chosen": chosen,
        "ways": scores,
    }
    write_whole(request.out, safetensors.torch.save(_plain(candidates[chosen][0]), {"onebasin": "merged"}))
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
    write_whole(told, json.dumps(facts, indent=1).encode())
    console.print(f"all figures: {told}", soft_wrap=True)


def read_weights(text: str | None) -> list[float] | None:
    """Return the numbers in a list such as "3,1"; None for none."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise AlignmentError(f"--weights: {text!r}; expected numbers with commas, such as 3,1") from None


def read_state(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Return the state in a .safetensors file; errors name the file and the first tensor that is not the model's."""
    try:
        state = safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise AlignmentError(f"{path}: not a safetensors file: {error}") from None
    expected = model.state_dict()
    shared = _shared_names(model)
    for name in expected:
        if name not in state and shared.get(name) in state:
            state[name] = state[shared[name]]
    for name, tensor in expected.items():
        if name not in state:
            raise AlignmentError(f"{path}: has no tensor {name!r}, which the model has")
        if state[name].shape != tensor.shape:
            raise AlignmentError(
                f"{path}: {name} has shape {list(state[name].shape)}; the model's has {list(tensor.shape)}"
            )
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise AlignmentError(f"{path}: has a tensor {unknown[0]!r}, which the model has not")
    return {name: state[name] for name in expected}


def _shared_names(model: nn.Module) -> dict[str, str]:
    """For names of tied parameters: the first name of each, under which files may have it alone."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in named}


def _model_and_data(request: Request) -> tuple[nn.Module, Dataset | None]:
    """What was asked for, or else what the first run directory among the files says."""
    run = next((path for path in request.files if path.is_dir()), None)
    dataset: Dataset | None
    if run is not None:
        task = read_config(RunDirectory.config_path(run)).task
        dataset = load_dataset(request.data or task.dataset)
        if request.model is None:
            return build_model(task.model.kind, dataset, 0, **task.model.options), dataset
    else:
        dataset = load_dataset(request.data) if request.data else None
    if request.model is None:
        raise AlignmentError("--model is missing: files do not say what model they are of, only run directories do")
    if dataset is not None:
        return build_model(request.model, dataset, 0), dataset
    if request.model in MODELS:
        raise AlignmentError(f"--model {request.model}: a built-in model takes its shape from --data")
    model = build(request.model)
    if not isinstance(model, nn.Module):
        raise AlignmentError(
            f"--model: {request.model!r} returned a {type(model).__name__}; expected a torch.nn.Module"
        )
    return model, None


def _probes(dataset: Dataset | None, path: Path | None) -> Tensor | None:
    if path is not None:
        try:
            array = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise AlignmentError(f"--inputs {path}: not an array that can be read: {error}") from None
        if not isinstance(array, np.ndarray) or array.ndim < 1 or len(array) < 2:
            raise AlignmentError(f"--inputs {path}: expected a .npy array of two examples or more")
        probes = torch.from_numpy(array)
        return (probes.float() if probes.is_floating_point() else probes.long())[:MOST_PROBES]
    return None if dataset is None else dataset.train.inputs[:MOST_PROBES]


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


def _candidates_table(scores: dict[str, dict[str, float]], chosen: str) -> Table:
    table = Table(
        box=None,
        padding=(0, 2),
        title="merged in every way; how much each disagrees with all models together",
        title_justify="left",
    )
    table.add_column("")
    tested = any("accuracy" in row for row in scores.values())
    table.add_column("disagrees, nats", justify="right")
    if tested:
        table.add_column("test accuracy, %", justify="right")
    for name, row in scores.items():
        cells = [f"{row['disagreement']:.4f}" if "disagreement" in row else ""]
        cells += [f"{100 * row['accuracy']:.2f}"] if tested else []
        table.add_row(f"[bold]{name}[/] (taken)" if name == chosen else name, *cells)
    return table


def _likeness_table(spec: PermutationSpec, alike: dict[str, dict[str, float]]) -> Table:
    table = Table(box=None, padding=(0, 2), title="cosine of neurons in one place", title_justify="left")
    for heading in ("group", "neurons", "before", "after"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for group in spec.groups:
        size = " x ".join(map(str, spec.shape(group)))
        table.add_row(group, size, f"{alike['before'][group]:.3f}", f"{alike['after'][group]:.3f}")
    return table


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
    from onebasin.report.paths import paths_figure

    ends = (files[0].stem, files[1].stem) if len(files) == 2 else ("each model", "their mean")
    save_png(paths_figure({name: [asdict(line) for line in each] for name, each in lines.items()}, ends), picture)


def _draw_neurons(spec: PermutationSpec, states: Sequence[State], aligned: Sequence[State], picture: Path) -> None:
    """The first two models' neurons, of the first groups that are not within others."""
    from onebasin.report.figures import save_png
    from onebasin.report.paths import neurons_figure

    shown = [group for group in spec.groups if not spec.groups[group].within][:MOST_GROUPS]
    if shown:
        before, after = likeness(spec, states[0], states[1]), likeness(spec, aligned[0], aligned[1])
        save_png(neurons_figure({group: (before[group], after[group]) for group in shown}), picture)


def _plain(state: State) -> dict[str, Tensor]:
    """Copies that share no memory, as the file format asks."""
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}

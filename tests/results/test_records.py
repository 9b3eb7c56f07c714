import json
from pathlib import Path

import pytest
import torch

from onebasin.core.atomic_write import write_atomically
from onebasin.core.state import State, StateError
from onebasin.results.records import find_runs, load_run


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_in_progress_is_read_up_to_its_last_complete_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('label = "x"\nseed = 3\n[method]\nname = "fedavg"\n')
    (tmp_path / "history.jsonl").write_text('{"round": 1}\n{"rou')
    run = load_run(tmp_path)
    assert (run.label, run.history, run.summary) == ("x", [{"round": 1}], {})


def test_runs_are_found_and_ordered(tmp_path: Path) -> None:
    for folder, label, seed in (("p", "b", 0), ("q", "a", 1), ("r", "a", 0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.toml").write_text(f'label = "{label}"\nseed = {seed}\n')
        (tmp_path / folder / "history.jsonl").touch()
    (tmp_path / "config.toml").write_text("another = 1\n")
    assert [(run.label, run.config["seed"]) for run in find_runs(tmp_path)] == [("a", 0), ("a", 1), ("b", 0)]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("label = ")
    with pytest.raises(ValueError, match="is not a run directory"):
        load_run(tmp_path)


def test_state_survives_saving_with_its_order_and_facts() -> None:
    state = State({"weights": {"z": torch.arange(3.0), "a": torch.tensor(1)}, "none": {}}, {"met": [1, 2], "x": None})
    again = State.from_bytes(state.to_bytes())
    assert again.facts == state.facts
    assert {slot: list(tensors) for slot, tensors in again.slots.items()} == {"weights": ["z", "a"], "none": []}
    assert torch.equal(again.slots["weights"]["z"], torch.arange(3.0))


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 40, json.dumps({"a": 1}).encode()])
def test_bytes_that_are_not_a_state_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        State.from_bytes(data)
    whole = State({"s": {"a": torch.zeros(4)}}).to_bytes()
    for size in range(0, len(whole), 7):
        with pytest.raises(StateError):
            State.from_bytes(whole[:size])

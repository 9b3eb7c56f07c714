"""Tiny Shakespeare by role: exact sequences from a small play."""

from pathlib import Path

import pytest
import torch

from onebasin.learning.data.load import Dataset, DatasetCorrupt, Split, load_dataset
from onebasin.learning.data.sources import shakespeare

pytestmark = pytest.mark.usefixtures("offline")

# Each speech has 600 characters. Two of them joined by a newline have 1,201 characters, 960 + 241.
ROMEO = ["ab cd" * 120, "ef gh" * 120]
JULIET = ["XYZ!?" * 120, "-.,;:" * 120]


def play(*speeches: tuple[str, str]) -> str:
    return "\n\n".join(f"{role}:\n{words}" for role, words in speeches) + "\n"


PLAY = play(("ROMEO", ROMEO[0]), ("JULIET", JULIET[0]), ("Nurse", "Ay."), ("JULIET", JULIET[1]), ("ROMEO", ROMEO[1]))


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str = PLAY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(shakespeare, "BYTES", len(content.encode()))
    path = folder / "input.txt"
    path.write_bytes(content.encode())
    return path


def decode(data: Dataset, ids: torch.Tensor) -> str:
    return "".join(data.class_names[index] for index in ids)


def test_sequences_of_each_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tinyshakespeare", monkeypatch)
    data = load_dataset("shakespeare", data_dir=tmp_path)
    assert data.owner_names == ("ROMEO", "JULIET"), "the nurse's text is too short"
    assert data.sequence
    # 960 characters give 11 complete sequences with a next character; 241 give 3.
    assert data.train.inputs.shape == data.train.targets.shape == (22, 80)
    assert data.test.inputs.shape == (6, 80)
    assert data.train.owners is not None
    assert data.train.owners.tolist() == [0] * 11 + [1] * 11
    for owner, text in enumerate(("\n".join(ROMEO), "\n".join(JULIET))):
        for split, part, length in ((data.train, text[:960], 880), (data.test, text[960:], 240)):
            assert split.owners is not None
            mine = split.owners == owner
            assert decode(data, split.inputs[mine].flatten()) == part[:length]
            assert decode(data, split.targets[mine].flatten()) == part[1 : length + 1]


def test_the_vocabulary() -> None:
    assert len(shakespeare.VOCABULARY) == len(set(shakespeare.VOCABULARY)) == 65
    assert sorted(shakespeare.VOCABULARY) == list(shakespeare.VOCABULARY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAY.replace("!", "#"), "the byte 35; expected only the 65 known characters"),
        (PLAY.replace("JULIET:", "JULIET"), "a speech begins with 'JULIET'; expected the role's name and a colon"),
        (play(("ROMEO", "Ay."), ("JULIET", "Me.")), "no role has 1000 characters"),
    ],
)
def test_a_corrupt_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str) -> None:
    write(tmp_path, monkeypatch, content)
    with pytest.raises(DatasetCorrupt, match=rf"input.txt: {message}"):
        load_dataset("shakespeare", data_dir=tmp_path)


def test_a_truncated_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, monkeypatch)
    path.write_text(PLAY[:-1])
    with pytest.raises(DatasetCorrupt, match=rf"input.txt: {len(PLAY) - 1} bytes; expected {len(PLAY)}"):
        load_dataset("shakespeare", data_dir=tmp_path)


def test_the_real_text(real_data: Path) -> None:
    data = load_dataset("shakespeare")
    assert (data.classes, len(data.owner_names)) == (65, 141)

    def characters(split: Split) -> int:
        return split.targets.numel()

    # 80% and 20% of the roles' text, without the incomplete last sequences.
    assert characters(data.train) + characters(data.test) < 1_115_394
    assert characters(data.train) / (characters(data.train) + characters(data.test)) == pytest.approx(0.8, abs=0.01)
    assert decode(data, data.train.inputs[0]).startswith("Before we proceed any further, hear me speak.")

"""A checkpoint is whole, or it is refused: every file has a digest, and so has the manifest that lists them."""

import json
import random
import shutil
from pathlib import Path

import pytest
from tests.methods.test_compositions import COMMON
from tests.stopped_runs import Stop, StopAfter, StopWithin, assert_same_run

import onebasin as ob
from onebasin.results.checkpoint import CheckpointError, digest_of

METHODS = (
    ("fedavg",),
    ("scaffold",),
    ("onebasin",),
    ("fedavg", "method.start=local", "method.frame=signatures"),
    ("stc",),
)
FAST, SLOW = 8, 200
"""Byte flips for each method."""


def stopped(method: str, changes: tuple[str, ...], folder: Path) -> tuple[Path, Path]:
    """Return the directories of a run that ended, and of the same run, stopped in its third round."""
    config = ob.read_config(method, [*COMMON, "federation.rounds=4", *changes])
    ob.run(config, out=folder / "whole")
    with pytest.raises(Stop):
        ob.run(config, out=folder / "stopped", observers=[StopWithin(3)])
    return folder / "whole", folder / "stopped"


def flip(directory: Path, draw: random.Random) -> Path:
    """Flip one bit of one file; return the file."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    chosen = draw.choice(files)
    content = bytearray(chosen.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    chosen.write_bytes(content)
    return chosen


def campaign(count: int, method: str, changes: tuple[str, ...], folder: Path) -> None:
    """Resume a run whose files have one flipped bit, so many times: it is refused, or ends with the same result."""
    whole, partial = stopped(method, changes, folder)
    draw, refused = random.Random(0), 0
    for number in range(count):
        damaged = folder / f"damaged-{number}"
        shutil.copytree(partial, damaged)
        chosen = flip(damaged, draw)
        try:
            ob.run(resume=damaged)
        except (ValueError, OSError, RuntimeError):
            refused += 1
        else:
            assert_same_run(whole, damaged)
            assert (whole / "summary.json").exists(), chosen
        shutil.rmtree(damaged)
    assert refused > count / 2


@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_a_flipped_bit_is_noticed_or_changes_nothing(method: tuple[str, ...], tmp_path: Path) -> None:
    campaign(FAST, method[0], method[1:], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_many_flipped_bits_are_noticed_or_change_nothing(method: tuple[str, ...], tmp_path: Path) -> None:
    campaign(SLOW, method[0], method[1:], tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The directory of a run that was stopped after two rounds."""
    with pytest.raises(Stop):
        ob.run(
            ob.read_config("scaffold", COMMON), ["federation.rounds=3"], out=tmp_path / "run", observers=[StopAfter(2)]
        )
    return tmp_path / "run"


def test_every_file_has_its_digest_in_the_manifest_and_the_manifest_its_own(run: Path) -> None:
    manifest = json.loads((run / "checkpoint" / "manifest.json").read_bytes())
    listed = {run / "checkpoint" / name: digest for name, digest in manifest["digests"].items()}
    listed |= {run / name: digest for name, digest in manifest["directory"].items()}
    assert {path.name for path in run.rglob("*") if path.is_file()} - {".lock", "manifest.json"} == {
        path.name for path in listed
    }
    assert {path: digest_of(path.read_bytes()) for path in listed} == listed
    digest = manifest.pop("digest")
    assert digest == digest_of(json.dumps(manifest, sort_keys=True).encode())


@pytest.mark.parametrize("name", ["config.toml", "holdings.json", "history.jsonl", "ledger.csv"])
def test_a_damaged_file_of_the_directory_is_named(run: Path, name: str) -> None:
    content = bytearray((run / name).read_bytes())
    content[-3] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(ValueError, match=name if name != "config.toml" else r"config\.toml|another run"):
        ob.run(resume=run)


@pytest.mark.parametrize("package", ["torch", "onebasin"])
def test_a_run_of_another_version_says_which_it_needs(run: Path, package: str) -> None:
    path = run / "checkpoint" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["digest"]
    manifest[package] = "0.0.1"
    path.write_text(json.dumps({"digest": digest_of(json.dumps(manifest, sort_keys=True).encode()), **manifest}))
    with pytest.raises(CheckpointError, match=rf"was made with {package} 0\.0\.1; .*resume it with {package}==0\.0\.1"):
        ob.run(resume=run)


def test_what_a_killed_process_left_half_written_is_removed(run: Path) -> None:
    left = [run / ".history.jsonl.7.partial", run / "checkpoint" / ".server-000003.safetensors.7.partial"]
    for path in left:
        path.write_bytes(b"half")
    ob.run(resume=run)
    assert not any(path.exists() for path in left)

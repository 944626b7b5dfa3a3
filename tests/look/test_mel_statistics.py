"""Mean and standard deviation of a set's mel: the same as those of all its values at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from train.small_sets import make_clip, mel_of, members_of, write_set

from valor_data.cli import main
from valor_data.errors import ShardError
from valor_data.look.mel_statistics import frames_with_sound, mel_statistics
from valor_data.media.mel import MelSettings
from valor_data.shard.output import FolderOutput, StoreOutput
from valor_data.shard.sample import array_bytes
from valor_data.storage import Store


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("set"), [3, 4])
    return write_set(folder, [2], split="test", first=100)


def values_of(*numbers: int) -> np.ndarray:
    return np.concatenate([mel_of(number) for number in numbers]).astype(np.float64)


def test_the_figures_of_all_values(work: Path) -> None:
    found = mel_statistics(FolderOutput(work))
    values = values_of(*range(7), 100, 101)
    assert (found.num_clips, found.num_frames, found.num_silent_clips) == (9, 9 * 700, 0)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.std == pytest.approx(values.std(), abs=1e-12)
    bands = found.to_dict()["bands"]
    assert [band["mean"] for band in bands] == pytest.approx(values.mean(0).tolist())
    assert [band["std"] for band in bands] == pytest.approx(values.std(0).tolist())


def test_one_split_alone(work: Path) -> None:
    seen: list[str] = []
    found = mel_statistics(FolderOutput(work), split="test", on_shard=seen.append)
    assert found.mean == pytest.approx(values_of(100, 101).mean(), abs=1e-12)
    assert seen == ["test-000000"]


def test_a_sample_is_drawn_by_key_and_grows(work: Path) -> None:
    output = FolderOutput(work)
    means = [mel_statistics(output, sample=3, seed=seed).mean for seed in (0, 0, 1, 2)]
    assert means[0] == means[1] and len(set(means)) > 1
    assert mel_statistics(output, sample=100).mean == mel_statistics(output).mean
    (one,) = (
        n for n in (*range(7), 100, 101) if mel_statistics(output, sample=1).mean == pytest.approx(values_of(n).mean())
    )
    rest = mel_statistics(output, sample=2).mean * 2 - values_of(one).mean()
    assert any(rest == pytest.approx(values_of(n).mean()) for n in range(102) if n != one), "a smaller sample is in it"


@pytest.mark.parametrize("sample", [None, 1])
def test_shards_at_an_address(work: Path, sample: int | None) -> None:
    there = mel_statistics(StoreOutput(Store(f"file://{work}")), sample=sample)
    assert there.to_dict() == mel_statistics(FolderOutput(work), sample=sample).to_dict()


def test_only_frames_with_sound_count(tmp_path: Path) -> None:
    spans = {0: [(1.0, 3.0)], 1: [(0.0, 0.0)], 2: [(0.0, 7.0)]}
    write_set(tmp_path, [3], change=lambda n, m: members_of(make_clip(n), n, spans=spans[n]))
    found = mel_statistics(FolderOutput(tmp_path))
    heard = frames_with_sound(700, MelSettings.valor(), [[1.0, 3.0]])
    assert 199 <= heard.sum() <= 201 and heard[100] and not heard[98] and not heard[300]
    values = np.concatenate([mel_of(0)[heard], mel_of(2)]).astype(np.float64)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert (found.num_clips, found.num_silent_clips) == (3, 1)


def test_no_sound_at_all(tmp_path: Path) -> None:
    write_set(tmp_path / "v", [2], modalities="v")
    with pytest.raises(ShardError, match="1 shards and no mel in them; they were made without sound"):
        mel_statistics(FolderOutput(tmp_path / "v"))
    write_set(tmp_path / "s", [2], change=lambda n, m: members_of(make_clip(n), n, spans=[(0.0, 0.0)]))
    with pytest.raises(ShardError, match="2 clips, and none of them has sound"):
        mel_statistics(FolderOutput(tmp_path / "s"))
    with pytest.raises(ShardError, match="no finished shards of split 'val'"):
        mel_statistics(FolderOutput(tmp_path / "s"), split="val")


def test_two_front_ends_are_not_mixed(tmp_path: Path) -> None:
    wide = array_bytes(np.zeros((5, 128), np.float16))
    write_set(tmp_path, [2], change=lambda n, m: m | ({"mel.npy": wide} if n else {}))
    with pytest.raises(ShardError, match=r"mel of two front ends: .* with 128 bands; count sets of one"):
        mel_statistics(FolderOutput(tmp_path))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, [2], change=lambda n, m: m | ({"mel.npy": b"x"} if n else {}))
    with pytest.raises(ShardError, match=rf"^train-000000/{make_clip(1).key}: .*; run `valor-data verify`$"):
        mel_statistics(FolderOutput(tmp_path))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str, object]:
    code: object = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    return out, err, code


def test_the_command(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _, code = run(capsys, "stats", "--mel", "--work", work, "--split", "train")
    values = values_of(*range(7))
    assert code == 0
    assert [line.split() for line in out.splitlines()[:2]] == [
        ["log-mel", "mean", "std", "clips", "frames", "with", "sound"],
        ["valor", f"{values.mean():.4f}", f"{values.std():.4f}", "7", "4,900"],
    ]
    out, _, _ = run(capsys, "stats", "--mel", "--work", work, "--json", "--sample", 2)
    assert json.loads(out)["mel"]["clips"] == 2
    out, _, _ = run(capsys, "stats", work, "--mel", "--json", "--sample", 2)  # a place may be named as well
    assert json.loads(out)["mel"]["clips"] == 2
    _, err, code = run(capsys, "stats", "--mel", "a", "b")
    assert (err, code) == ("error: stats --mel reads one place with shards/ and index/ in it, not 2\n", 2)

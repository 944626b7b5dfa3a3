"""The loader from shards to batches: every clip, no clip twice, the same again, and on from any batch."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from train.small_sets import (
    COLOUR_STEP,
    MEL_FRAMES,
    WORDS,
    clip_number,
    make_clip,
    mel_of,
    members_of,
    write_set,
)

from valor_data.clip import Question
from valor_data.errors import ConfigError, ShardError
from valor_data.shard.sample import array_bytes
from valor_data.train.batch import Batch
from valor_data.train.captions import TextSettings
from valor_data.train.data import DataSet, EvaluationData, LoaderSettings, Step, TrainingData
from valor_data.train.mel_slices import VALOR_MEAN, VALOR_STD, MelSliceSettings
from valor_data.train.pictures import PictureSettings

TASK = "pt_contra%tva%tv%ta_caption%tva%tv%ta"
SMALL = LoaderSettings(
    batch_size=4,
    workers=0,
    buffer=8,
    pictures=PictureSettings(count=2, size_px=16),
    mel=MelSliceSettings(count=1, length=512),
    text=TextSettings(max_tokens=8),
)
COUNTS = [9, 3, 8, 7]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 clips in four shards to train on, five in two to test with."""
    folder = write_set(tmp_path_factory.mktemp("set"), COUNTS)
    return write_set(folder, [2, 3], split="test", first=100)


def training(
    work: Path, settings: LoaderSettings = SMALL, *, rank: int = 0, world: int = 1, task: str = TASK
) -> TrainingData:
    return TrainingData([DataSet(shards=work, task=task)], settings, WORDS, rank=rank, world=world)


def fingerprint(step: Step) -> tuple[object, ...]:
    batch = step.batch
    tensors = (batch.frames, batch.mel, batch.mel_valid, batch.has_sound, batch.captions, batch.questions)
    return (step.task, tuple(batch.keys), *(None if t is None else t.numpy().tobytes() for t in tensors))


def numbers(steps: Iterator[Step] | TrainingData | EvaluationData) -> Counter[int]:
    return Counter(clip_number(key) for step in steps for key in step.batch.keys)


def test_a_batch_is_what_the_model_takes(work: Path) -> None:
    step = next(iter(training(work)))
    batch: Batch = step.batch
    assert step.task == TASK
    assert len(batch) == 4
    assert batch.frames is not None and batch.frames.shape == (4, 2, 3, 16, 16) and batch.frames.dtype == torch.uint8
    assert batch.mel is not None and batch.mel.shape == (4, 1, 64, 512) and batch.mel.dtype == torch.float32
    assert batch.mel_valid is not None and batch.mel_valid.shape == (4, 1, 512)
    assert batch.has_sound is not None and batch.has_sound.tolist() == [True] * 4
    assert batch.captions is not None and batch.captions.shape == (4, 10) and batch.captions.dtype == torch.int64
    assert batch.questions is None and batch.question_keys is None
    for row, key in enumerate(batch.keys):
        number = clip_number(key)
        check_clip(batch, row, number)


def check_clip(batch: Batch, row: int, number: int) -> None:
    """Pictures, sound and words of one row are those of the clip, and of its right moments."""
    assert batch.frames is not None and batch.mel is not None and batch.mel_valid is not None
    assert batch.captions is not None and batch.references is not None
    colours = batch.frames[row].float().mean((2, 3)) / COLOUR_STEP
    assert colours[:, 0].tolist() == pytest.approx([number % 7] * 2, abs=0.1)
    moments = [round(float(colour)) for colour in colours[:, 2]]
    assert moments[0] in (0, 1, 2) and moments[1] in (3, 4, 5)
    first = 0 if bool(batch.mel_valid[row].all()) else 512
    part = mel_of(number)[first : first + 512].astype(np.float64)
    expected = (part.T - VALOR_MEAN) / (2 * VALOR_STD)
    assert batch.mel[row, 0, :, : len(part)].numpy() == pytest.approx(expected, abs=1e-5)
    assert batch.references[row] == [f"Clip {number}.", f"clip {number} is heard"]
    assert WORDS.decode(batch.captions[row]) in (f"clip {number} .", f"clip {number} is heard")


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_takes_no_clip_twice_and_few_are_left_over(work: Path, world: int, workers: int) -> None:
    settings = replace(SMALL, workers=workers, batch_size=3)
    ranks = [training(work, settings, rank=rank, world=world) for rank in range(world)]
    assert {len(data) for data in ranks} == {27 // (3 * world)}
    for _ in range(2):
        seen: Counter[int] = Counter()
        for data in ranks:
            steps = list(data)
            assert len(steps) == len(data)
            seen.update(numbers(iter(steps)))
        assert set(seen.values()) == {1}
        assert 27 - len(seen) < 3 * world
    assert ranks[0].epoch == 2


def test_epochs_and_seeds_differ_and_the_same_is_the_same(work: Path) -> None:
    data = training(work)
    first, second = [fingerprint(s) for s in data], [fingerprint(s) for s in data]
    assert first == [fingerprint(s) for s in training(work)]
    assert first != second
    assert first != [fingerprint(s) for s in training(work, replace(SMALL, seed=1))]


def test_more_workers_than_shards_in_real_processes(work: Path) -> None:
    settings = replace(SMALL, workers=5)
    data = training(work, settings)
    steps = list(data)
    seen = numbers(iter(steps))
    assert set(seen.values()) == {1} and len(steps) == 6
    assert [fingerprint(s) for s in steps] == [fingerprint(s) for s in training(work, settings)]


def test_two_workers_after_a_parent_that_has_computed(work: Path) -> None:
    torch.randn(400, 400).mm(torch.randn(400, 400)).softmax(0)
    before = torch.random.get_rng_state()
    data = training(work, replace(SMALL, workers=2))
    for _ in range(2):
        assert set(numbers(data).values()) == {1}
    assert torch.random.get_rng_state().equal(before), "the trainer's random numbers do not depend on the loader"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", ["one set", "mixed", "resampled", "damaged"])
def test_going_on_equals_an_undisturbed_run(work: Path, tmp_path: Path, workers: int, way: str) -> None:
    settings = replace(SMALL, workers=workers, resampled=way == "resampled", min_broken=1000)
    sets = [DataSet(shards=work, task=TASK)]
    if way == "mixed":
        sets.append(DataSet(shards=work, task="pt_contra%tv_caption%tv", split="test", weight=0.5, name="silent"))
    if way == "damaged":
        sets = [DataSet(shards=damaged(tmp_path), task=TASK)]

    def fresh() -> TrainingData:
        return TrainingData(sets, settings, WORDS)

    whole, states, data = [], [json.dumps(fresh().state())], fresh()
    for _ in range(2):
        for step in data:
            whole.append(fingerprint(step))
            states.append(json.dumps(data.state()))
    assert len(whole) == 2 * len(data)
    for stopped in (0, 1, 2, len(data) - 1, len(data), len(data) + 1):
        again = fresh()
        again.load_state(json.loads(states[stopped]))
        rest = []
        while again.epoch < 2:
            rest += [fingerprint(step) for step in again]
        assert rest == whole[stopped:], f"taken up after {stopped} batches"


def test_the_rest_of_a_pass_may_be_damaged_throughout(work: Path, tmp_path: Path) -> None:
    """Taken up behind its last good sample, a pass ends and the next one begins; nothing is said to be unusable."""
    sets = [DataSet(shards=damaged(tmp_path), task=TASK)]
    behind_the_last = 0
    for seed in range(8):
        settings = replace(SMALL, seed=seed, batch_size=1, min_broken=1000)
        data = TrainingData(sets, settings, WORDS)
        states, whole = [], []
        for step in data:
            states.append(json.dumps(data.state()))
            whole.append(fingerprint(step))
        position = json.loads(states[21])["positions"][0][0]  # 22 of 27 are good
        behind_the_last += position[0] == 0 and position[1] < 27
        again = TrainingData(sets, settings, WORDS)
        again.load_state(json.loads(states[21]))
        assert [fingerprint(step) for step in again] == whole[22:]
    assert behind_the_last, "no seed put a damaged sample last"


def test_the_order_does_not_depend_on_where_the_set_lies(work: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(work, tmp_path / "elsewhere")
    assert [fingerprint(s) for s in training(work)] == [fingerprint(s) for s in training(moved)]


def damaged(folder: Path) -> Path:
    def change(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        return members | {"frame_00.jpg": b"", "frame_01.jpg": b"", "frame_02.jpg": b""} if number % 5 == 2 else members

    return write_set(folder / "damaged", COUNTS, change=change)


def test_the_same_set_is_drawn_on_every_rank_as_often_as_it_weighs(work: Path) -> None:
    sets = [
        DataSet(shards=work, task=TASK, weight=3.0),
        DataSet(shards=work, task="pt_contra%tv", split="test", weight=1.0, name="no sound"),
    ]
    settings = replace(SMALL, batch_size=2, epoch_batches=120, pictures=PictureSettings(count=1, size_px=8))
    drawn = []
    for rank in range(2):
        data = TrainingData(sets, settings, WORDS, rank=rank, world=2)
        steps = list(data)
        assert len(steps) == len(data) == 120
        for task, batch in steps:
            assert (batch.mel is None) == (task == "pt_contra%tv")
            assert {clip_number(key) >= 100 for key in batch.keys} == {task == "pt_contra%tv"}
        drawn.append([step.task for step in steps])
    assert drawn[0] == drawn[1]
    assert drawn[0].count(TASK) / 120 == pytest.approx(0.75, abs=0.12)


def test_an_evaluation_is_every_clip_once_in_its_middle(work: Path) -> None:
    for workers in (0, 2):
        data = EvaluationData(DataSet(shards=work, task="ret%tva"), replace(SMALL, workers=workers), WORDS)
        steps = list(data)
        assert len(steps) == len(data) == 7
        assert numbers(iter(steps)) == Counter(range(27))
        for _, batch in steps:
            assert batch.frames is not None and batch.captions is not None
            moments = (batch.frames.float().mean((3, 4))[:, :, 2] / COLOUR_STEP).round().tolist()
            assert moments == [[1, 4]] * len(batch)
            assert [WORDS.decode(row) for row in batch.captions] == [f"clip {clip_number(k)} ." for k in batch.keys]
        assert [fingerprint(s) for s in steps] == [fingerprint(s) for s in data], "and so again"


@pytest.mark.parametrize("world", [2, 4, 7])
def test_ranks_of_an_evaluation_have_equally_many_batches(work: Path, world: int) -> None:
    data_set = DataSet(shards=work, task="ret%tva", split="test")
    ranks = [EvaluationData(data_set, replace(SMALL, batch_size=1), WORDS, rank=r, world=world) for r in range(world)]
    assert len({len(data) for data in ranks}) == 1
    seen: Counter[int] = Counter()
    for data in ranks:
        steps = list(data)
        assert len(steps) == len(data)
        seen.update(numbers(iter(steps)))
    assert seen.keys() == set(range(100, 105))


def test_all_captions_in_an_evaluation(work: Path) -> None:
    settings = replace(SMALL, text=TextSettings(max_tokens=8, evaluate="all"))
    batch = next(iter(EvaluationData(DataSet(shards=work, task="ret%tva"), settings, WORDS))).batch
    assert batch.keys[0] == batch.keys[1] and batch.captions is not None and batch.frames is not None
    assert WORDS.decode(batch.captions[1]) == "clip 0 is heard"
    assert batch.frames[0].equal(batch.frames[1])


def asked(number: int) -> object:
    questions = [
        Question(f"q{number}-{i}", f"what number {i}", (f"{number}", f"{number}", f"clip {number}")) for i in (0, 1)
    ]
    return make_clip(number, questions=questions)


def test_questions_and_answers(tmp_path: Path) -> None:
    work = write_set(tmp_path, [6], clip_of=asked)
    settings = replace(SMALL, batch_size=3)
    batch = next(iter(training(work, settings, task="qa%tva"))).batch
    assert (
        len(batch) == 3 and batch.questions is not None and batch.captions is not None and batch.references is not None
    )
    assert batch.captions.shape == (3, 7), "an answer has at most five tokens"
    for row in range(3):
        assert WORDS.decode(batch.questions[row]) in ("what number 0", "what number 1")
        assert WORDS.decode(batch.captions[row]) in batch.references[row]
    evaluation = list(EvaluationData(DataSet(shards=work, task="qa%tva"), settings, WORDS))
    asked_of = [key for _, batch in evaluation for key in batch.question_keys or ()]
    assert asked_of == [f"q{number}-{i}" for number in range(6) for i in (0, 1)]
    first = evaluation[0].batch
    assert first.captions is not None and first.frames is not None
    assert WORDS.decode(first.captions[2]) == "1", "the most frequent answer"
    assert first.frames.shape[0] == 6


@pytest.mark.parametrize(("modalities", "task"), [("v", "pt_contra%tv_caption%tv"), ("a", "pt_contra%ta_caption%ta")])
def test_sets_of_one_modality(tmp_path: Path, modalities: str, task: str) -> None:
    work = write_set(tmp_path, [5], modalities=modalities)
    batch = next(iter(training(work, task=task))).batch
    assert (batch.frames is None, batch.mel is None) == ("v" not in modalities, "a" not in modalities)
    assert (batch.has_sound is None, batch.mel_valid is None) == (batch.mel is None,) * 2
    missing = "sound" if modalities == "v" else "pictures"
    with pytest.raises(
        ConfigError, match=rf"the task takes {missing}, but .*modalities = {modalities}\); build shards"
    ):
        training(work)


def test_a_clip_without_sound_is_marked(tmp_path: Path) -> None:
    def change(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        if number == 1:  # its sound track has nothing where the clip is
            return members_of(make_clip(1), 1, spans=[(0.0, 0.0)])
        if number == 2:  # from a set without sound
            return members_of(make_clip(2), 2, "v")
        return members

    work = write_set(tmp_path, [4], change=change)
    batch = next(iter(EvaluationData(DataSet(shards=work, task="ret%tva"), SMALL, WORDS))).batch
    assert batch.has_sound is not None and batch.mel is not None and batch.mel_valid is not None
    assert batch.has_sound.tolist() == [True, False, False, True]
    assert batch.mel[1:3].abs().sum() == 0 and not batch.mel_valid[1:3].any()


BREAK = {
    "pictures: ": {"frame_01.jpg": b"\xff\xd8 no"},
    "json: ": {"json": b"{"},
    "json: no field": {"json": b'{"mel": {}}'},
    "json: expected an object": {"json": b"[]"},
    "mel.npy: no array": {"mel.npy": b"x"},
    "mel.npy: float16 of shape (7, 3); expected floats [T, 64]": {"mel.npy": array_bytes(np.zeros((7, 3), np.float16))},
    "mel.npy: holds values": {"mel.npy": array_bytes(np.full((7, 64), np.nan, np.float16))},
}


@pytest.mark.parametrize("reason", BREAK)
def test_a_broken_sample_is_left_out_named_and_counted(
    tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = write_set(tmp_path, [6], change=lambda n, members: members | BREAK[reason] if n == 3 else members)
    data = EvaluationData(DataSet(shards=work, task="ret%tva"), SMALL, WORDS)
    with caplog.at_level(logging.WARNING):
        assert numbers(data) == Counter([0, 1, 2, 4, 5])
    (broken,) = data.broken
    assert broken.key == make_clip(3).key and broken.shard == str(work / "shards/train-000000.tar")
    assert broken.reason.startswith(reason)
    assert f"left out: {broken.key} in {broken.shard}: {reason}" in caplog.text


@pytest.mark.parametrize("member", ["mel.npy", "json", "frame_"])
def test_a_missing_member_breaks_a_sample(tmp_path: Path, member: str) -> None:
    def change(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        return {n: d for n, d in members.items() if not n.startswith(member)} if number == 3 else members

    work = write_set(tmp_path, [6], change=change)
    data = training(work, replace(SMALL, batch_size=2, min_broken=5))
    steps = list(data)
    assert len(steps) == 3 and all(len(step.batch) == 2 for step in steps), "the next clip comes up"
    assert [one.key for one in data.broken] == [make_clip(3).key]
    assert data.num_read == 6 + data.num_broken and data.num_broken in (1, 2), "the next pass may meet it, too"
    assert make_clip(3).key not in [key for step in steps for key in step.batch.keys]


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_samples_stop_the_run(tmp_path: Path, workers: int) -> None:
    settings = replace(SMALL, workers=workers, min_broken=3)
    with pytest.raises(ShardError, match=r"^\d of \d+ samples cannot be used \(at most 1.0% may\); the first: clip\d+"):
        list(training(damaged(tmp_path), replace(settings, batch_size=2)))
    allowed = replace(settings, max_broken_share=0.5)
    assert len(list(training(damaged(tmp_path), allowed))) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_usable_is_an_error_and_no_endless_search(tmp_path: Path, workers: int) -> None:
    work = write_set(tmp_path, [5], change=lambda n, members: members | {"json": b"{}"} if n else members)
    broken = replace(SMALL, workers=workers, batch_size=2)
    (work / "shards/train-000000.tar").rename(work / "shards/x.tar")
    write_set(work, [4], change=lambda n, members: members | {f"frame_{i:02d}.jpg": b"" for i in range(6)})
    for data in (training(work, broken), EvaluationData(DataSet(shards=work, task="ret%tva"), broken, WORDS)):
        with pytest.raises(ShardError, match=r"no sample of 1 shards can be used; clip\d+.* in .*: pictures: "):
            list(data)


def test_a_damaged_tar_costs_its_rest(tmp_path: Path) -> None:
    work = write_set(tmp_path, [5, 5])
    tar = work / "shards/train-000000.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    data = EvaluationData(DataSet(shards=work, task="ret%tva"), SMALL, WORDS)
    seen = numbers(data)
    lost = 10 - len(seen)
    assert set(range(5, 10)) < seen.keys() and 1 <= lost <= 4
    assert [(one.key, one.shard) for one in data.broken] == [("", str(tar))]
    assert "unexpected end of data" in data.broken[0].reason


def test_a_tar_with_fewer_samples_than_its_sidecar_says(tmp_path: Path) -> None:
    work = write_set(tmp_path, [3])
    (work / "index/train-000000.json").write_text(json.dumps({"num_samples": 5}))
    data = EvaluationData(DataSet(shards=work, task="ret%tva"), SMALL, WORDS)
    assert numbers(data).keys() == {0, 1, 2}
    assert data.broken[0].reason == "the tar holds fewer samples than were counted"


def test_captions_from_a_file(work: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text(json.dumps({make_clip(n).key: ["what is seen"] for n in (0, 1, 2, 26)}))
    data = EvaluationData(DataSet(shards=work, task="ret%tva", captions=path), SMALL, WORDS)
    batch = next(iter(data)).batch
    assert batch.captions is not None
    assert [WORDS.decode(row) for row in batch.captions] == ["what is seen"] * 3


def test_the_reference_on_request(work: Path) -> None:
    exact = replace(
        SMALL,
        pictures=PictureSettings(count=2, size_px=16, reference_exact=True),
        mel=MelSliceSettings(count=2, reference_exact=True),
    )
    batch = next(iter(EvaluationData(DataSet(shards=work, task="ret%tva"), exact, WORDS))).batch
    assert batch.frames is not None and batch.frames.dtype == torch.float32 and float(batch.frames.max()) <= 1
    pad: Tensor = batch.mel[:, 1, :, MEL_FRAMES - 512 :]  # type: ignore[index]
    assert pad.numpy() == pytest.approx(0.46703, abs=1e-5)


def test_a_position_of_other_data_is_refused(work: Path) -> None:
    state = training(work).state()
    with pytest.raises(ConfigError) as caught:
        training(work, replace(SMALL, seed=3, batch_size=2)).load_state(state)
    assert [problem.split(" was ")[0] for problem in caught.value.problems] == [
        "data: seed",
        "data: batch_size",
        "data: epoch_batches",
    ]
    with pytest.raises(ConfigError, match="version None, expected 1"):
        training(work).load_state({})


def test_too_few_clips_for_a_batch(work: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"27 clips are too few for one batch of 20 on each of 2 ranks; give it at least 40"
    ):
        training(work, replace(SMALL, batch_size=20), world=2)


def test_wrong_settings_are_all_named(work: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        LoaderSettings(batch_size=0, workers=-1, buffer=0, max_broken_share=2)
    assert len(caught.value.problems) == 4
    with pytest.raises(ConfigError, match="sets: expected at least one"):
        TrainingData([], SMALL, WORDS)

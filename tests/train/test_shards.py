"""Where shards are found, how they are counted, and what becomes of a connection that breaks."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from train.small_sets import clip_number, write_set

from valor_data.errors import ConfigError, ShardError
from valor_data.storage import Store, StoreError
from valor_data.train import shards as shards_module
from valor_data.train.plan import Piece, Span
from valor_data.train.shards import Held, PieceReader, find_shards, read_shard
from valor_data.train.survey import survey


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("set"), [2, 3, 4])
    return write_set(folder, [1], split="test", first=50)


def counted(*places: str | Path, split: str = "train") -> list[int]:
    return [shard.num_samples for shard in find_shards(list(places), split)]


def test_places_of_every_kind(work: Path) -> None:
    tars = [str(work / f"shards/train-{n:06d}.tar") for n in range(3)]
    for places in (
        work,
        work / "shards",
        f"{work}/shards/",
        f"{work}/shards/train-{{000000..000002}}.tar",
        f"{work}/shards/train-*.tar",
        tars,
        [tars[0], tars[0], f"{work}/shards/train-00000[12].tar".replace("[12]", "{1,2}")],
        f"file://{work}",
        f"file://{work}/shards/train-*.tar",
    ):
        found = find_shards(places, "train")
        assert [shard.num_samples for shard in found] == [2, 3, 4], places
        assert [shard.url.removeprefix("file://") for shard in found] == tars
    assert counted(work, split="test") == [1]
    assert sum(counted(work, split="")) == 10


def test_a_tar_in_the_current_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work / "shards")
    assert counted("train-000001.tar") == [3]
    assert counted(".") == [2, 3, 4]


@pytest.mark.parametrize("address", ["", "file://"])
def test_tars_without_a_sidecar_are_counted(work: Path, tmp_path: Path, address: str) -> None:
    for tar in (work / "shards").glob("train*"):
        shutil.copy(tar, tmp_path)
    assert counted(f"{address}{tmp_path}") == [2, 3, 4]


def test_a_sidecar_that_says_nothing_is_not_believed(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work, tmp_path / "copy")
    (tmp_path / "copy/index/train-000000.json").write_text("{}")
    (tmp_path / "copy/index/train-000001.json").write_text("no json")
    assert counted(tmp_path / "copy") == [2, 3, 4]


@pytest.mark.parametrize("address", ["", "file://"])
def test_no_shards(tmp_path: Path, address: str) -> None:
    with pytest.raises(ShardError, match=rf"{tmp_path}: no shards of split 'train' here; expected a tar, a folder"):
        find_shards(f"{address}{tmp_path}", "train")
    with pytest.raises(ShardError, match=r"x\.tar: cannot be read: .*[Nn]o such file.*; check the place"):
        find_shards(f"{address}{tmp_path}/x.tar")


def test_a_file_that_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 1000)
    with pytest.raises(ShardError, match=r"x\.tar: .*invalid header.*; run `valor-data verify`"):
        find_shards(tmp_path)


def test_another_tool_s_shards_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, [2], change=lambda n, m: {"jpg": b"x", "txt": b"y"})
    with pytest.raises(ShardError, match=r"is no sample of valor-data \(members: jpg, txt\)"):
        survey(find_shards(tmp_path), "v", "set")


def test_shards_without_samples(tmp_path: Path) -> None:
    write_set(tmp_path, [0])
    with pytest.raises(ShardError, match="set: 1 shards and no sample in them"):
        survey(find_shards(tmp_path), "v", "set")


def test_a_survey_names_everything_that_is_missing(work: Path, tmp_path: Path) -> None:
    found = survey(find_shards(work, "train"), "av", "set")
    assert (found.num_frames, found.num_mel_bins, found.mel["name"]) == (6, 64, "valor")
    write_set(tmp_path, [1], change=lambda n, m: {"json": m["json"], "txt": m["txt"]})
    with pytest.raises(ConfigError) as caught:
        survey(find_shards(tmp_path), "av", "set")
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "set: the task takes sound",
        "set: the task takes pictures",
    ]


def keep(key: str, files: Any) -> Held:
    return Held(files["json"], (), None, 0)


def test_a_piece_is_read_in_its_order_from_any_place(work: Path) -> None:
    shards = find_shards(work, "train")
    piece = Piece(0, (Span(2, 1, 4), Span(0, 0, 1), Span(1, 1, 3)), (3, 0, 5, 2, 1, 4))
    line = [6, 7, 8, 0, 3, 4]
    expected = [line[place] for place in piece.order]
    for start in range(7):
        found = [clip_number(raw.key) for raw in PieceReader(shards, piece, keep, start)]
        assert found == expected[start:]


def test_shards_that_were_given_out_are_not_opened(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(shards_module, "read_shard", lambda url: opened.append(url) or read_shard(url))
    shards = find_shards(work, "train")
    piece = Piece(0, (Span(0, 0, 2), Span(1, 0, 3)), (1, 0, 2, 4, 3))
    assert len(list(PieceReader(shards, piece, keep, 2))) == 3
    assert opened == [shards[1].url]


class Breaking(io.BytesIO):
    """A connection that breaks after so many bytes."""

    def __init__(self, data: bytes, good_bytes: int) -> None:
        super().__init__(data)
        self.good_bytes = good_bytes

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.good_bytes:
            raise ConnectionResetError("reset by peer")
        return super().read(size)


def test_a_connection_that_breaks_is_opened_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (work / "shards/train-000002.tar").read_bytes()
    good = iter([20_000, 20_000, 60_000, 10**9])
    monkeypatch.setattr(Store, "stream", lambda store, name: Breaking(data, next(good)))
    monkeypatch.setattr(shards_module, "RECONNECT_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(shards_module, "READ_BYTES", 8192)
    assert [clip_number(f["__key__"]) for f in read_shard("s3://bucket/x.tar")] == [5, 6, 7, 8]


def test_a_connection_that_stays_broken_is_an_error(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (work / "shards/train-000002.tar").read_bytes()
    monkeypatch.setattr(Store, "stream", lambda store, name: Breaking(data, 0))
    monkeypatch.setattr(shards_module, "RECONNECT_SECONDS", (0.0, 0.0))
    with pytest.raises(StoreError, match=r"s3://bucket/x\.tar: broke off at byte 0: reset by peer"):
        list(read_shard("s3://bucket/x.tar"))

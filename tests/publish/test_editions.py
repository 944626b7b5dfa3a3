"""One build gives every edition; what is made of a larger one has the bytes of a smaller build."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from valor_data.errors import PublishError
from valor_data.ledger import Ledger
from valor_data.publish.built import read_built
from valor_data.publish.editions import check_edition, derive_index, derive_tar, is_derived
from valor_data.shard.output import json_of, rows_of, tar_of
from valor_data.workdir import WorkDir


def test_features_made_of_media_are_those_of_a_build_without(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    plain = builds["plain"].root
    with Ledger(builds["full"].ledger, read_only=True) as ledger:
        built = read_built(builds["full"], ledger)
        assert is_derived(built, "features")
        assert not is_derived(built, "media")
        for name, shard in built.shards.items():
            made = derive_index(built, shard, ledger)
            digest = derive_tar(built, shard, tmp_path / "made.tar")
            tar = (tmp_path / "made.tar").read_bytes()
            assert tar == (plain / tar_of(name)).read_bytes()
            assert len(tar) == made.size_bytes
            assert hashlib.sha256(tar).hexdigest() == digest
            assert made.rows == (plain / rows_of(name)).read_bytes()
            assert made.json(digest) == (plain / json_of(name)).read_bytes()


def test_the_source_is_left_as_it_is(full: WorkDir, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    before = {path: path.read_bytes() for path in full.shards.iterdir()}
    with Ledger(full.ledger, read_only=True) as ledger:
        built = read_built(full, ledger)
        derive_tar(built, built.shards["train-000000"], tmp_path / "made.tar")
    assert {path: path.read_bytes() for path in full.shards.iterdir()} == before


def test_a_damaged_tar_is_not_made_into_another(full: WorkDir, tmp_path: Path) -> None:
    tar = full.shards / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    place = data.index(b"\xff\xd8\xff")
    data[place + 40] ^= 1
    tar.write_bytes(bytes(data))
    (tmp_path / "source").mkdir()
    with Ledger(full.ledger, read_only=True) as ledger:
        built = read_built(full, ledger)
        with pytest.raises(PublishError, match=r"train-000000\.tar: .*frame_00\.jpg is not what its index says"):
            derive_tar(built, built.shards["train-000000"], tmp_path / "made.tar")


def test_what_a_build_does_not_hold_is_refused(builds: dict[str, WorkDir]) -> None:
    with Ledger(builds["plain"].ledger, read_only=True) as ledger:
        built = read_built(builds["plain"], ledger)
        check_edition(built, "ids")
        check_edition(built, "features")
        with pytest.raises(PublishError, match="shard --include video,audio"):
            check_edition(built, "media")

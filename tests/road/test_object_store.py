"""Shards at an address, media from an address: a real S3 server, with faults, kills and damage."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from driving import go, standings, tar_bytes
from object_store import Fault, ObjectStore, running_store

import valor_data
from valor_data import storage
from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import World, WorldSettings, make_world
from valor_data.errors import ConfigError, ShardError
from valor_data.look.verify import verify
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, run_shard
from valor_data.road.parts import merge_parts
from valor_data.shard.reader import read_samples
from valor_data.storage import StoreError
from valor_data.workdir import WorkDir

SHARDING = ShardSection(workers=2, max_clips=4, partial=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with running_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The server, with what this process and its children need to find it."""
    import fsspec

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.proxy.forget()
    fsspec.filesystem("s3").clear_instance_cache()
    yield server
    fsspec.filesystem("s3").clear_instance_cache()


@dataclass(frozen=True)
class Begun:
    """A work folder whose clips are fetched and measured, and one in which they are in shards on the disk."""

    measured: Path
    local: Path
    manifest: Path


@pytest.fixture(scope="module")
def begun(world: World, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    root = tmp_path_factory.mktemp("begun")
    manifest = root / "manifest.parquet"
    write_manifest(build_manifest(list(world.annotations)), manifest)
    fetch = FetchSection(source=str(world.media), workers=2, copy=True)
    go(root / "measured", manifest, str(world.media), stages=("fetch", "filter"), fetch=fetch)
    shutil.copytree(root / "measured", root / "local")
    go(root / "local", None, "", stages=("shard",), sharding=SHARDING)
    return Begun(root / "measured", root / "local", manifest)


@pytest.fixture
def work(begun: Begun, tmp_path: Path) -> Path:
    shutil.copytree(begun.measured, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def bucket(store: ObjectStore, request: pytest.FixtureRequest) -> str:
    """An empty bucket, by its name."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower().replace("test_", "")).strip("-")[:60]
    store.make_bucket(name)
    return name


def shard(work: Path, output: str, **settings: object) -> list[str]:
    """Builds shards in this process; gives the notices."""
    section = dataclasses.replace(SHARDING, output=output, **settings)  # type: ignore[arg-type]
    with Driver(WorkDir.at(work)) as driver:
        return run_shard(driver, section, "av", explicit={"output", *settings}).notices


def again(work: Path, **settings: object) -> None:
    """The rerun after a kill, in this process."""
    section = dataclasses.replace(SHARDING, **settings)  # type: ignore[arg-type]
    go(work, None, "", stages=("shard",), sharding=section)


def on_disk(work: Path) -> dict[str, bytes]:
    """Everything in the two folders of shards, by name."""
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in ("shards", "index")
        for path in sorted((work / folder).iterdir())
    }


def program(work: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "valor_data", "shard", "--work", str(work), "--workers", "2", "--max-clips", "4"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--partial", *options], stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def kill_at(process: subprocess.Popen[str], fault: Fault) -> None:
    """Kills the whole process tree when the fault is reached."""
    assert fault.seen.wait(60), "the request was not made"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


# -- shards at an address


def test_shards_at_an_address_are_those_of_a_folder(work: Path, begun: Begun, store: ObjectStore, bucket: str) -> None:
    output = f"s3://{bucket}/deep/set"
    shard(work, output)
    assert store.objects(bucket, "deep/set/") == on_disk(begun.local)
    assert not any((work / name).exists() for name in ("shards", "index", "tmp")), "nothing is kept on the disk"
    assert standings(work) == standings(begun.local)
    found = verify(WorkDir.at(work))
    assert (found.problems, found.num_shards) == ([], len(tar_bytes(begun.local)))
    here, there = (list(valor_data.open_shards(place)) for place in (begun.local / "shards", f"{output}/shards"))
    assert [sample.details for sample in there] == [sample.details for sample in here]
    assert [sample.jpegs for sample in there] == [sample.jpegs for sample in here]
    vals = [sample.key for sample in valor_data.open_shards(f"{output}/shards/", split="val")]
    assert vals == [sample.key for sample in here if sample.clip.split == "val"]
    # The place is remembered, and what nothing has touched costs two requests, however many shards there are.
    store.proxy.forget()
    go(work, None, "", stages=("shard",), sharding=SHARDING)
    assert [method for method, _ in store.proxy.requests] == ["GET", "GET"]
    assert store.proxy.count("GET", "list-type=2") == 2


def test_another_caption_uploads_its_own_shard_alone(work: Path, world: World, store: ObjectStore, bucket: str) -> None:
    shard(work, f"s3://{bucket}")
    before = store.objects(bucket)
    sample = next(iter(valor_data.open_shards(f"s3://{bucket}/shards", split="val")))
    changed = _other_captions(world, work.parent, {sample.key})
    go(work, changed, "", stages=("fetch",), fetch=FetchSection(source=str(world.media), copy=True))
    store.proxy.forget()
    again(work)
    after = store.objects(bucket)
    names = {name for name in after if after[name] != before.get(name)}
    stems = {Path(name).stem for name in names}
    assert len(stems) == 1 and stems.pop().startswith("val-")
    assert store.proxy.count("PUT", "") == len(names) == 3
    found = [sample.key for sample in valor_data.open_shards(f"s3://{bucket}/shards")
             if sample.clip.captions[0].text == "Something else is seen."]  # fmt: skip
    assert sample.key in found
    assert verify(WorkDir.at(work)).problems == []


def test_parts_that_share_an_address(work: Path, begun: Begun, store: ObjectStore, bucket: str) -> None:
    section = dataclasses.replace(SHARDING, output=f"s3://{bucket}")
    with Driver(WorkDir.at(work)) as driver:
        run_shard(driver, section, "av", explicit={"output"}, plan_only=True)
    assert store.objects(bucket) == {}
    for part in ("1/2", "2/2"):
        with Driver(WorkDir.at(work).of_part(part)) as driver:
            run_shard(driver, SHARDING, "av")
    assert len(merge_parts(WorkDir.at(work)).parts) == 2
    assert store.objects(bucket) == on_disk(begun.local)
    assert standings(work) == standings(begun.local)
    assert verify(WorkDir.at(work)).problems == []


def test_a_file_address_and_another_folder(work: Path, begun: Begun, tmp_path: Path) -> None:
    """Through fsspec as through the disk."""
    shutil.copytree(work, tmp_path / "second")
    shard(work, f"file://{tmp_path}/through/fsspec")
    shard(tmp_path / "second", str(tmp_path / "folder"))
    assert on_disk(tmp_path / "through" / "fsspec") == on_disk(begun.local) == on_disk(tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["index", "shards"]


@pytest.mark.parametrize(
    "request_killed",
    [
        pytest.param(("PUT", r"shards/train-000001\.tar"), marks=pytest.mark.slow),
        pytest.param(("PUT", r"index/train-000001\.parquet"), marks=pytest.mark.slow),
        ("PUT", r"index/train-000001\.json"),
    ],
    ids=["tar", "parquet", "json"],
)
@pytest.mark.parametrize("kind", ["hold", pytest.param("after", marks=pytest.mark.slow)])
def test_an_upload_that_is_killed(
    work: Path, begun: Begun, store: ObjectStore, bucket: str, request_killed: tuple[str, str], kind: str
) -> None:
    """Before the object is there, and after it is, with nobody to note it."""
    fault = store.proxy.plays(*request_killed, kind)
    kill_at(program(work, "--output", f"s3://{bucket}"), fault)
    objects = store.objects(bucket)
    if kind == "hold":
        assert "index/train-000001.json" not in objects, "a shard whose upload was killed is not finished"
    assert [name for name in objects if name not in on_disk(begun.local)] == []
    assert all(json.loads(data)["tar_bytes"] == len(objects.get(name.replace("index", "shards")[:-4] + "tar", b""))
               for name, data in objects.items() if name.endswith(".json"))  # fmt: skip
    store.proxy.forget()
    again(work)
    assert store.objects(bucket) == on_disk(begun.local)
    assert verify(WorkDir.at(work)).problems == []
    assert not (work / "tmp").exists()


def test_no_mixture_of_an_old_and_a_new_shard_is_finished(
    work: Path, begun: Begun, store: ObjectStore, bucket: str
) -> None:
    output = f"s3://{bucket}/set"
    shard(work, output)
    former = store.objects(bucket, "set/")
    store.proxy.forget()
    # Killed once the new tar is there, and the Parquet is still the old one.
    fault = store.proxy.plays("PUT", r"train-000001\.parquet", "hold")
    kill_at(program(work, "--num-frames", "4"), fault)
    mixed = store.objects(bucket, "set/")
    assert mixed["shards/train-000001.tar"] != former["shards/train-000001.tar"]
    assert mixed["index/train-000001.parquet"] == former["index/train-000001.parquet"]
    assert "index/train-000001.json" not in mixed
    assert any("train-000001: not finished" in problem for problem in verify(WorkDir.at(work)).problems)
    changes = [
        (method, path.rpartition("/")[2]) for method, path in store.proxy.requests if method in ("PUT", "DELETE")
    ]
    assert [change for change in changes if change[1].startswith("train-000001")] == [
        ("DELETE", "train-000001.json"),
        ("PUT", "train-000001.tar"),
        ("PUT", "train-000001.parquet"),
    ]
    store.proxy.forget()
    again(work)
    other = work.with_name("other")
    shutil.copytree(begun.measured, other)
    shard(other, "", num_frames=4)
    assert store.objects(bucket, "set/") == on_disk(other)
    assert verify(WorkDir.at(work)).problems == []


@pytest.mark.slow
def test_a_clip_whose_media_are_discarded_outlives_a_killed_upload(
    work: Path, begun: Begun, world: World, store: ObjectStore, bucket: str
) -> None:
    """Its pictures and its sound are nowhere but in the shard that is being replaced."""
    shard(work, f"s3://{bucket}", discard_media=True)
    before = store.objects(bucket)
    kept = {key for key, (status, _) in standings(work).items() if status == "kept"}
    assert not kept & {path.stem for path in (work / "media").rglob("*.*")}
    changed = _other_captions(world, work.parent, kept)
    go(work, changed, "", stages=("fetch",), fetch=FetchSection(source=str(world.media), copy=True))
    store.proxy.forget()
    fault = store.proxy.plays("PUT", r"shards/train-00000[0-9]\.tar", "hold")
    kill_at(program(work, "--discard-media"), fault)
    missing = {name for name in before if name.endswith(".json")} - set(store.objects(bucket))
    assert len(missing) >= 1, "the JSON of the shard on its way had gone first"
    store.proxy.forget()
    again(work, discard_media=True)
    after = store.objects(bucket)
    assert set(after) == set(before)
    assert {key for key, (status, _) in standings(work).items() if status == "kept"} == kept
    assert all(b"Something else is seen." in data for name, data in after.items() if name.endswith(".tar"))
    assert verify(WorkDir.at(work)).problems == []


def _other_captions(world: World, folder: Path, keys: set[str]) -> Path:
    """A manifest in which the clips of some videos have another caption."""
    videos = {key.rsplit("_", 2)[0] for key in keys}
    files = []
    for annotation in world.annotations:
        rows = json.loads(annotation.read_text())
        for row in rows:
            has_caption = any(letter.isalpha() for letter in str(row.get("desc")))  # a row without one stays one
            if has_caption and row["video_id"].rsplit("_", 2)[0] in videos:
                row["desc"] = "Something else is seen."
        files.append(folder / annotation.name)
        files[-1].write_text(json.dumps(rows))
    write_manifest(build_manifest(files), folder / "changed.parquet")
    return folder / "changed.parquet"


def test_a_server_that_is_busy_now_and_then(work: Path, begun: Begun, store: ObjectStore, bucket: str) -> None:
    faults = [
        store.proxy.plays("PUT", r"train-000000\.tar"),
        store.proxy.plays("PUT", r"train-000001\.json", status=500),
        store.proxy.plays("PUT", r"train-000002\.tar", "cut"),
        store.proxy.plays("GET", "list-type", times=1),
        store.proxy.plays("DELETE", r"val-000000\.json", status=502),
    ]
    shard(work, f"s3://{bucket}")
    assert [fault.times for fault in faults] == [0] * 5, "every fault was met"
    assert store.objects(bucket) == on_disk(begun.local)


def test_a_store_that_refuses_stops_the_run_in_one_line(
    work: Path, begun: Begun, store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is complete waits under tmp/ and is uploaded by the next command, not made again."""
    secrets = ("AKIAq1very", "q2verysecret", "q3verysecret")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name, value in zip(names, secrets, strict=True):
        monkeypatch.setenv(name, value)
    store.proxy.plays("PUT", r"train-000001\.tar", status=403, times=100)
    said = ends(program(work, "--output", f"s3://{bucket}"), code=2)
    line = next(line for line in said.splitlines() if line.startswith("error:"))
    assert f"s3://{bucket}/shards/train-000001.tar: refused (" in line and "Traceback" not in said
    marks = list((work / "tmp").glob("*/train-000001*/train-000001.json"))
    assert len(marks) == 1
    written = [said, *(path.read_bytes().decode(errors="replace") for path in work.rglob("*") if path.is_file())]
    assert any("train-000001.tar: refused" in text for text in written[1:]), "the log has the error"
    assert not [text for text in written if any(secret in text for secret in secrets)]
    store.proxy.forget()
    for path in (work / "media").rglob("*.*"):
        path.chmod(0)
    with Driver(WorkDir.at(work)):
        pass
    assert store.proxy.count("PUT", r"train-000001\.") == 3
    assert store.objects(bucket)["shards/train-000001.tar"] == on_disk(begun.local)["shards/train-000001.tar"]
    for path in (work / "media").rglob("*.*"):
        path.chmod(0o644)
    again(work)
    assert store.objects(bucket) == on_disk(begun.local)


def test_a_bucket_that_nobody_made(work: Path, store: ObjectStore) -> None:
    with pytest.raises(ConfigError, match=r"^s3://nobody-made-it/.*: no such bucket; make it, or mend the address"):
        shard(work, "s3://nobody-made-it")


def test_a_secret_is_written_nowhere(work: Path) -> None:
    said = ends(program(work, "--output", "s3://key:verysecret@bucket/set"), code=2)
    assert "an address must hold no name:password@" in said
    (work / "valor.toml").write_text('[shard]\noutput = "s3://bucket/set?secret=verysecret"\n')
    said += ends(program(work), code=2)
    with pytest.raises(ConfigError):
        shard(work, "s3://key:verysecret@bucket/set")
    assert "verysecret" not in said
    written = [path for path in work.rglob("*") if path.is_file() and path.name != "valor.toml"]
    assert not [path for path in written if b"verysecret" in path.read_bytes()]


def test_shards_do_not_move_by_themselves(work: Path, begun: Begun, store: ObjectStore, bucket: str) -> None:
    shutil.rmtree(work)
    shutil.copytree(begun.local, work)
    output = f"s3://{bucket}/set"
    words = rf"finished shards stand at {work}, not at {output}: copy the folders shards/ and index/ there first, or"
    with pytest.raises(ConfigError, match=words):
        shard(work, output)
    for name, data in on_disk(work).items():
        store.put(bucket, f"set/{name}", data)
        (work / name).unlink()
    store.proxy.forget()
    shard(work, output)
    assert store.proxy.count("PUT", "") == 0, "copied shards are taken as they are"
    # Given up, they go from where they stood.
    with Driver(WorkDir.at(work)) as driver:
        run_shard(driver, ShardSection(workers=2, max_clips=9, partial=True, output=""), "av",
                  explicit={"output", "max_clips"}, replan=True)  # fmt: skip
    assert store.objects(bucket) == {}
    assert len(tar_bytes(work)) < len(tar_bytes(begun.local))
    assert verify(WorkDir.at(work)).problems == []


def test_verify_finds_damage_at_an_address(
    work: Path, begun: Begun, store: ObjectStore, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from valor_data.cli import main

    for name, data in on_disk(begun.local).items():
        store.put(bucket, f"set/{name}", data)
    main(["verify", "--work", str(work / "no-ledger"), "--output", f"s3://{bucket}/set"])
    assert "all is well" in capsys.readouterr().out
    tar = on_disk(begun.local)["shards/train-000000.tar"]
    store.put(
        bucket, "set/shards/train-000000.tar", tar[:2000] + bytes(255 - byte for byte in tar[2000:2010]) + tar[2010:]
    )
    store.put(bucket, "set/index/stray.txt", b"x")
    store.client().delete_object(Bucket=bucket, Key="set/index/train-000001.json")
    store.client().delete_object(Bucket=bucket, Key="set/shards/train-000002.tar")
    with pytest.raises(SystemExit):
        main(["verify", "--work", str(work / "no-ledger"), "--output", f"s3://{bucket}/set", "--json"])
    problems = "\n".join(json.loads(capsys.readouterr().out)["problems"])
    for words in (
        "train-000000.tar: its sha256 is not the one in train-000000.json",
        f"s3://{bucket}/set/index/stray.txt: belongs to no shard",
        "train-000001: not finished, its JSON cannot be read",
        "train-000002.tar: is missing",
    ):
        assert words in problems


def test_a_reader_outlasts_a_busy_server(
    begun: Begun, store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0.01, 0.01))
    for name, data in on_disk(begun.local).items():
        store.put(bucket, name, data)
    busy = store.proxy.plays("GET", r"train-000001\.tar", times=2)
    here = [sample.details for sample in valor_data.open_shards(begun.local / "shards")]
    assert [sample.details for sample in valor_data.open_shards(f"s3://{bucket}/shards")] == here
    assert busy.times == 0
    store.proxy.plays("GET", r"train-000001\.tar", times=100)
    words = rf"^s3://{bucket}/shards/train-000001\.tar: the store fails \(.*\); see that it is reachable, [^<>]*$"
    with pytest.raises(StoreError, match=words) as error:
        list(valor_data.open_shards(f"s3://{bucket}/shards"))
    assert len(error.value.args) == 1, "webdataset adds open files"


def test_a_reader_names_what_is_wrong(store: ObjectStore, bucket: str) -> None:
    store.put(bucket, "shards/train-000000.tar", b"no tar at all" * 1000)
    with pytest.raises(ShardError, match=rf"^s3://{bucket}/shards/train-000000.tar: invalid header"):
        list(valor_data.open_shards(f"s3://{bucket}/shards"))
    with pytest.raises(ShardError, match=r"no shards of split 'val' here; expected NAME-000000.tar"):
        valor_data.open_shards(f"s3://{bucket}/shards", split="val")
    with pytest.raises(ShardError, match="no shards here"):
        valor_data.open_shards(f"s3://{bucket}/none")
    with pytest.raises(ShardError, match=r"train-000009\.tar: .*no such file or object"):
        list(read_samples([f"s3://{bucket}/shards/train-000009.tar"]))


# -- media from an address


def test_media_from_an_address_are_those_of_a_folder(
    world: World, begun: Begun, store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    for path in sorted(world.media.iterdir()):
        store.put(bucket, f"videos/{path.name[:2]}/{path.name}", path.read_bytes())
    busy = sorted(path.name for path in world.media.iterdir())[0]
    faults = [
        store.proxy.plays("GET", f"{busy}$"),
        store.proxy.plays("GET", "list-type", times=1),
    ]
    work = tmp_path / "work"
    go(work, begun.manifest, f"s3://{bucket}/videos", fetch=FetchSection(source=f"s3://{bucket}/videos", workers=2),
       filtering=FilterSection(workers=2), sharding=SHARDING)  # fmt: skip
    assert [fault.times for fault in faults] == [0, 0]
    assert standings(work) == standings(begun.local)
    assert tar_bytes(work) == tar_bytes(begun.local)
    listed = [path for method, path in store.proxy.requests if "list-type" in path]
    # Two more, of the folder alone, say that it holds videos and is no set of samples.
    assert len(listed) <= 4 + len({path.name[:2] for path in world.media.iterdir()}), "the folder is listed once"
    assert not any(path.suffix == ".part" for path in work.rglob("*"))


def test_an_object_that_is_lost_or_locked_costs_its_own_clips(
    world: World, begun: Begun, store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    videos = sorted(path for path in world.media.iterdir() if path.stat().st_size > 5000)[:4]
    for path in videos:
        store.put(bucket, path.name, path.read_bytes())
    store.proxy.plays("GET", f"{videos[0].name}$", status=403, times=100)
    store.proxy.plays("GET", f"{videos[1].name}$", status=404, times=100)
    go(tmp_path / "work", begun.manifest, "", stages=("fetch",), fetch=FetchSection(source=f"s3://{bucket}", workers=1))
    told = standings(tmp_path / "work")
    of_video = {video.stem: {told[key] for key in told if key.rsplit("_", 2)[0] == video.stem} for video in videos}
    assert of_video[videos[0].stem] == {("waiting", "forbidden")}
    assert of_video[videos[1].stem] == {("waiting", "missing")}
    store.proxy.forget()
    go(tmp_path / "work", None, "", stages=("fetch",), fetch=FetchSection(source=f"s3://{bucket}", workers=1))
    told = standings(tmp_path / "work")
    assert not [key for key in told if key.rsplit("_", 2)[0] == videos[0].stem and told[key][0] == "waiting"]

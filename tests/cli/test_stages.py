"""fetch, filter, shard, verify, status and why as a person and as a script use them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from cli.commands import Answer, call
from small_media import make_video

from valor_data.demo import MediaServer, World
from valor_data.media.probe import probe


def outcomes(tree: dict[str, object]) -> dict[str, int]:
    rows = tree["outcomes"]
    assert isinstance(rows, list)
    return {f"{row['status']}:{row['reason']}".rstrip(":"): row["count"] for row in rows}


def tars(work: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (work / "shards").iterdir()}


# -- what a person reads


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("fetch", ["clips kept", "clips dropped", "next: valor-data filter --work "]),
        ("filter", ["clips kept", "silent", "no_audio", "no sound track", "next: valor-data shard --work "]),
        ("shard", ["shards kept", "next: valor-data verify --work "]),
        ("verify", ["samples read: all is well"]),
        ("status", ["split", "manifest", "fetched", "kept", "in shards", "train", "val", "test", "all", "losses"]),
    ],
)
def test_what_each_command_says(answers: dict[str, Answer], command: str, words: list[str]) -> None:
    for word in words:
        assert word in answers[command].out
    assert "Traceback" not in answers[command].err
    assert "\x1b" not in answers[command].out + answers[command].err, "no colours off a terminal"


def test_what_is_done_is_not_done_again(finished: Path, world: World, server: MediaServer) -> None:
    before, asked = tars(finished), server.count()
    assert outcomes(call("fetch", "--work", finished, "--json").json).keys() <= {"waiting:gone_once"}
    assert call("filter", "--work", finished, "--json").json["stage"] == "filter"
    assert set(outcomes(call("shard", "--work", finished, "--json").json)) == {"kept"}
    assert tars(finished) == before
    dead = {truth.video_id for truth in world.truth if truth.kind == "dead"}
    assert {request.video_id for request in server.requests[asked:]} <= dead


MISTYPED = {
    "filter": [], "shard": [], "filter --part 1/2": [], "shard --part 1/2": [], "push me/set": [], "remove": [],
    "recaption": ["--captions", "captions.jsonl"], "audit": [], "extend --mel ast": [], "train": [],
}  # fmt: skip


@pytest.mark.parametrize("command", MISTYPED)
def test_a_mistyped_work_folder_is_not_made(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"video_id": "AAAAAAAAAAA", "start": 0, "end": 10, "caption": "A dog barks."}\n')
    answer = call(*command.split(), *MISTYPED[command], "--work", tmp_path / "typo", code=1)
    expected = "no shards of split 'train' here" if command == "train" else "no ledger at"
    assert expected in answer.errors[0] and str(tmp_path / "typo") in answer.errors[0]
    assert sorted(tmp_path.iterdir()) == [captions]


# -- what a script reads


def test_json_answers_are_json_alone(work: Path, manifest: Path, server: MediaServer, tmp_path: Path) -> None:
    other = tmp_path / "json"
    at = ("--work", other, "--json")
    fetched = call("fetch", manifest, "--source", server.url_template, "--limit", 3, *at).json
    assert (fetched["stage"], sum(outcomes(fetched).values())) == ("fetch", 3)
    assert call("filter", "--workers", 1, *at).json["stage"] == "filter"
    status = call("status", *at).json
    assert status["all"]["manifest"] - status["all"]["fetch_pending"] == 3
    verified = call("verify", "--work", work, "--json").json
    assert verified["problems"] == [] and verified["samples"] > 10
    status = call("status", "--work", work, "--json").json
    assert status["all"]["shard_kept"] == verified["samples"] == status["shards"]["samples"]
    assert [split["split"] for split in status["splits"]] == ["test", "train", "val"]


def test_why_answers_for_every_key(finished: Path, world: World) -> None:
    odd = [t for t in world.truth if t.key.startswith(("-", "_")) and not t.expect.startswith("rejected")]
    assert {t.key[0] for t in odd} == {"-", "_"}
    for truth in odd:
        (told,) = call("why", truth.key, "--work", finished, "--json").json
        assert told["key"] == truth.key
        last = list(told["stages"].values())[-1]
        assert truth.accepts(last["status"], last["reason"])
        assert {row["key"] for row in call("why", truth.video_id, "--work", finished, "--json").json} >= {truth.key}


@pytest.mark.parametrize(
    "key", ["-h123456789_00000000_00001000", "-0hBIyqJj9Z", "--work-json", "-", "-_-_-_-_-_-", "[/b]"]
)
def test_a_key_is_never_taken_for_an_option(finished: Path, key: str) -> None:
    answer = call("why", key, "--work", finished, code=1)
    (line,) = answer.errors
    assert line.startswith(f"no clip {key!r} in {finished}/ledger.sqlite: expected a key or a video id")


def test_why_in_words(finished: Path, world: World) -> None:
    kept = next(t for t in world.truth if t.expect == "kept")
    text = call("why", kept.key, "--work", finished).out
    for words in (kept.key, f"split {kept.split}", "fetch: kept", "filter: kept", "shard: kept", "media: ", "facts: ",
                  " dBFS", "in shard "):  # fmt: skip
        assert words in text
    silent = next(t for t in world.truth if t.kind == "silent")
    text = call("why", silent.key, "--work", finished).out
    for words in ("filter: dropped silent", "meaning: the sound is below", "what to do: lower", "in full: RMS -"):
        assert words in text


# -- settings


def test_a_threshold_moved_touches_no_media_and_is_remembered(work: Path, server: MediaServer) -> None:
    kept = outcomes(call("filter", "--work", work, "--json").json)["kept"]
    asked = server.count()
    strict = outcomes(call("filter", "--work", work, "--min-rms-dbfs", "-40", "--json").json)
    assert strict["kept"] < kept
    assert outcomes(call("filter", "--work", work, "--json").json) == strict
    assert outcomes(call("filter", "--work", work, "--min-rms-dbfs", "-60", "--json").json)["kept"] == kept
    assert server.count() == asked


def test_sample_settings_are_remembered(work: Path) -> None:
    before = tars(work)
    assert outcomes(call("shard", "--work", work, "--json").json).keys() == {"kept"}
    assert tars(work) == before, "--num-frames 3 still holds"


def test_settings_of_the_work_folders_file(work: Path) -> None:
    (work / "valor.toml").write_text("[filter]\nmin_rms_dbfs = -40\n")
    strict = outcomes(call("filter", "--work", work, "--json").json)["kept"]
    loose = outcomes(call("filter", "--work", work, "--min-rms-dbfs", "-60", "--json").json)["kept"]
    assert strict < loose
    (work / "valor.toml").write_text("[filter]\nmin_rms = -40\n[fetsh]\n")
    assert call("filter", "--work", work, code=2).errors == [
        "valor.toml: filter.min_rms: no such setting; did you mean filter.min_rms_dbfs?",
        "valor.toml: fetsh: no such setting; did you mean fetch?",
    ]


def test_the_source_is_remembered_from_any_folder(
    manifest: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.folder)
    call("fetch", manifest, "--source", "media", "--work", tmp_path / "w", "--limit", 2)
    monkeypatch.chdir(tmp_path)
    fetched = call("fetch", "--work", "w", "--limit", 2, "--json").json
    assert sum(outcomes(fetched).values()) == 2


def test_a_source_that_was_refused_is_not_remembered(manifest: Path, world: World, tmp_path: Path) -> None:
    call("fetch", manifest, "--source", world.media, "--work", tmp_path / "w", "--limit", 2)
    call("fetch", "--source", "/no/such/folder", "--work", tmp_path / "w", code=2)
    call("fetch", "--work", tmp_path / "w", "--limit", 2)


def test_a_relative_source_in_the_work_folders_file(manifest: Path, world: World, tmp_path: Path) -> None:
    (tmp_path / "valor.toml").write_text('[fetch]\nsource = "videos"\n')
    shutil.copytree(world.media, tmp_path / "videos")
    assert outcomes(call("fetch", manifest, "--work", tmp_path, "--limit", 2, "--json").json)


def test_a_whole_video_that_is_listed_as_a_clip_too(tmp_path: Path) -> None:
    video = make_video(tmp_path / "videos" / "abc.mp4")
    end = math.floor((probe(video).duration_seconds or 0) * 1000) / 1000
    rows = [{"id": "abc", "text": "A bell."}, {"id": "abc", "start": 0, "end": end, "text": "A bus."}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("manifest", tmp_path / "train.jsonl", "-o", tmp_path / "m.parquet")
    at = ("--work", tmp_path / "w")
    for copied in ("--in-place", "--copy"):
        fetched = call("fetch", tmp_path / "m.parquet", "--source", tmp_path / "videos", copied, *at, "--json").json
        assert outcomes(fetched) == {"kept": 1, "dropped:duplicate": 1}
        shutil.rmtree(tmp_path / "w")


# -- errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status"], 1, "no ledger at {empty}/ledger.sqlite: name the work folder with --work, or run `fetch` first"),
        (["why", "x"], 1, "no ledger at {empty}/ledger.sqlite"),
        (["fetch"], 2, "{empty}: no manifest here yet; give one: valor-data fetch MANIFEST --work {empty}"),
        (["fetch", "none.parquet", "--source", "{empty}"], 1, "no manifest there; make a manifest of annotation files"),
        (["fetch", "--source", "ftp://x/{{video_id}}"], 2, "expected an http:// or https:// address with a host"),
        (["fetch", "--workers", "65"], 2, "--workers: expected 1 to 64; found 65"),
        (["filter", "--min-coverage", "2"], 2, "--min-coverage: expected 0 to 1; found 2.0"),
        (["filter", "--modalities", "va"], 2, "modalities: expected one of av, v, a; found 'va'"),
        (["shard"], 1, "no ledger at {empty}/ledger.sqlite"),
        (["shard", "--include", "audio,text"], 2, "--include: expected one of audio, video; found 'text'"),
        (["shard", "--mel", "clap", "--jpeg-quality", "0"], 2, "--jpeg-quality: expected 1 to 100; found 0"),
    ],
)
def test_errors_are_lines(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    filled = [argument.format(empty=empty) for argument in arguments]
    lines = call(*filled, "--work", empty, code=code).errors
    assert any(words.format(empty=empty) in line for line in lines), lines


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["filter", "--nonsense"], ["fetch", "--limit", "-1"], ["filter", "--workers", "x"], ["why"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    answer = call(*arguments, code=2)
    assert "Traceback" not in answer.err
    assert "Usage: " in answer.err or "usage" in answer.err.lower()


def test_two_wrong_options_are_two_lines(finished: Path) -> None:
    assert call("shard", "--mel", "clap", "--num-frames", 0, "--work", finished, code=2).errors == [
        "--num-frames: expected 1 to 100; found 0",
        "--mel: expected one of valor, ast; found 'clap'",
    ]


def test_what_cannot_change_in_a_work_folder(work: Path) -> None:
    (line,) = call("filter", "--modalities", "v", "--work", work, code=2).errors
    assert line == (
        "modalities: this work folder was begun with 'av', not 'v'; what a run holds cannot change; "
        "use another --work folder"
    )
    (line,) = call("shard", "--max-clips", 5, "--work", work, code=2).errors
    assert line.startswith("the shard plan is fixed: max_clips is 8, not 5; --replan gives it up")
    call("shard", "--max-clips", 5, "--replan", "--workers", 1, "--work", work)
    assert call("verify", "--work", work).code == 0


def test_verify_lists_what_is_wrong(work: Path) -> None:
    tar = sorted((work / "shards").glob("*.tar"))[0]
    tar.write_bytes(tar.read_bytes()[:2000])
    answer = call("verify", "--work", work, code=1)
    assert f"wrong: {tar.name}: its sha256 is not the one in" in answer.out
    assert " problems" in answer.out
    assert len(call("verify", "--work", work, "--json", code=1).json["problems"]) >= 2


def test_nothing_to_verify(tmp_path: Path) -> None:
    answer = call("verify", "--work", tmp_path, code=1)
    assert f"wrong: {tmp_path}/shards: no shards here; run `valor-data shard` first" in answer.out


def test_a_ledger_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("this is no database, whatever its name says" * 100)
    for command in (["status"], ["why", "x"]):
        (line,) = call(*command, "--work", tmp_path, code=1).errors
        assert "ledger.sqlite" in line and "not a database" in line
        assert "unexpected" not in line


def test_names_of_files_are_shown_as_they_are(manifest: Path, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(world.media, folder)
    video = next(folder.glob("*.mp4"))
    shutil.copy(video, folder / "My trip [dQw4w9WgXcQ] [bold].mp4")
    answer = call("fetch", manifest, "--source", folder, "--work", tmp_path / "w", "--limit", 1)
    assert "My trip [dQw4w9WgXcQ] [bold]" in answer.out
    told = call("fetch", manifest, "--source", folder, "--work", tmp_path / "w", "--limit", 1, "--json").json
    assert any("[dQw4w9WgXcQ]" in notice for notice in told["notices"])


def test_each_run_leaves_a_log(finished: Path) -> None:
    logs = list((finished / "logs").glob("*.log"))
    assert {path.stem.split("-")[2] for path in logs} >= {"fetch", "filter", "shard"}
    assert not any("Traceback" in path.read_text() for path in logs)
    assert json.loads(call("status", "--work", finished, "--json").out)

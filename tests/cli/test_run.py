"""`valor-data run`: one file says it all, and a second run has nothing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.commands import call

from valor_data.demo import MediaServer, World


def toml(world: World, server: MediaServer, folder: Path, **more: str) -> Path:
    files = ", ".join(f'"{path.name}"' for path in world.annotations)
    for path in world.annotations:
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / "set.toml"
    path.write_text(
        f'work = "made"\n[manifest]\nfiles = [{files}]\n[fetch]\nsource = "{server.url_template}"\n'
        f"[filter]\nworkers = 1\n[shard]\nworkers = 1\nmax_clips = 8\nnum_frames = 2\npartial = true\n"
    )
    return path


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for name in ("shards", "index", "media")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def test_run_twice(world: World, server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(world, server, tmp_path)
    monkeypatch.chdir("/")  # names in the file are relative to the file
    first = call("run", path)
    for words in (
        "fetch",
        "filter",
        "shard",
        "verify",
        "all is well",
        f"next: valor-data status --work {tmp_path}/made",
    ):
        assert words in first.out
    made, asked = tmp_path / "made", server.count()
    before = state(made)
    assert len([name for name in before if name.endswith(".tar")]) >= 3
    assert (made / "manifest.parquet").is_file() and (made / "rejects.parquet").is_file()
    again: dict[str, Any] = call("run", path, "--json").json
    assert [stage["stage"] for stage in again["stages"]] == ["fetch", "filter", "shard"]
    assert again["verify"]["problems"] == []
    assert state(made) == before, "the second run does nothing"
    dead = {truth.video_id for truth in world.truth if truth.kind == "dead"}
    assert {request.video_id for request in server.requests[asked:]} <= dead
    # The single commands go on with what the file said, without it.
    assert call("shard", "--work", made, "--json").json["outcomes"] == [
        {"status": "kept", "reason": "", "count": len([name for name in before if name.endswith(".json")])}
    ]


def test_a_wrong_file_lists_every_problem_and_nothing_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "valor.toml"
    path.write_text('modalities = "x"\n[fetch]\nsorce = "a"\nworkers = 0\n[shard]\nmel = 3\n')
    assert call("run", path, code=2).errors == [
        f"{path}: modalities: expected one of av, v, a; found 'x'",
        f"{path}: fetch.sorce: no such setting; did you mean fetch.source?",
        f"{path}: fetch.workers: expected 1 to 64; found 0",
        f"{path}: shard.mel: expected a text, found 3",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["valor.toml"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, 2, "valor.toml: no such file; write one, or pass options to the single commands"),
        ("[fetch", 2, "valor.toml: not TOML: "),
        ("", 2, "no manifest here yet; give one"),
        ('[manifest]\nfiles = ["none.json"]\n', 1, "none.json: cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_run(tmp_path: Path, text: str | None, code: int, words: str) -> None:
    path = tmp_path / "valor.toml"
    if text is not None:
        path.write_text(text)
    (line,) = call("run", path, code=code).errors
    assert words in line

"""A folder that Megatron-Energon takes: the tars, and its own index, made and checked by its own tool.

    <split>-000000.tar      the shards: links to them, where they lie on the same disk or on this machine
    <split>-000000.tar.idx  where each sample begins
    .nv-meta/               dataset.yaml, split.yaml, index.sqlite, index.uuid, .info.json

`dataset.yaml` describes a sample as an image with its caption, the middle picture of the clip (a set without pictures:
its caption as text): what `energon lint` can check and every example of Energon's reads. All other members are in the
tars for a sample loader or cooker of one's own. The tool draws the uuid anew each time, and its SQLite file is not the
same twice: these two are not equal byte for byte from one export to the next.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from valor_data.errors import ConfigError, ValorDataError
from valor_data.execute.local import available_cores
from valor_data.publish.exports import Exported, ExportOptions, Progress
from valor_data.publish.exports.target import Target
from valor_data.publish.finished import FinishedSet, FinishedShard, open_shard
from valor_data.shard.output import FolderOutput
from valor_data.shard.reader import clip_of
from valor_data.shard.tar import TarFile
from valor_data.workdir import written_aside

TOOL = "energon"
META = ".nv-meta"


def check(finished: FinishedSet, target: Target, options: ExportOptions) -> None:
    """Refuses to begin without the tool.

    Raises:
        ConfigError: it is not installed.
    """
    if tool() is None:
        raise ConfigError("--layout energon: its own tool makes the index: pip install 'valor-data[energon]'")


def tool() -> Path | None:
    """Energon's command: beside this Python, or on the path; None when it is not installed."""
    beside = Path(sys.executable).with_name(TOOL)
    if beside.is_file():
        return beside
    found = shutil.which(TOOL)
    return Path(found) if found else None


def write(finished: FinishedSet, target: Target, options: ExportOptions, progress: Progress) -> Exported:
    """Writes the layout; see `exports.run_export`.

    Raises:
        ValorDataError: the tool fails, or finds fault with what it made; its last words are told.
    """
    chosen = finished.first(options.limit)
    exported = Exported(num_clips=sum(number for _, number in chosen))
    progress.start("export", exported.num_clips, "clips")
    with tempfile.TemporaryDirectory(prefix="valor-data-export-") as scratch:
        folder = target.folder or Path(scratch)
        for shard, number in chosen:
            exported.num_captions += _place_tar(finished, shard, number, folder / f"{shard.name}.tar")
            progress.advance("placed", count=number)
        _remove_others(folder, {shard.name for shard, _ in chosen})
        splits = list(dict.fromkeys(shard.split for shard, _ in chosen))
        _prepare(finished, folder, splits, options.workers)
        if target.folder is None:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                target.output.put(path, path.relative_to(folder).as_posix())
    exported.files = {f"{split}-*.tar": "the shards, with an .idx beside each" for split in splits}
    exported.files[f"{META}/"] = "the index, made by energon prepare, passed by its lint"
    return exported


def _place_tar(finished: FinishedSet, shard: FinishedShard, number: int, place: Path) -> int:
    """Puts a shard's tar into the folder: linked where it can be as it is, else written anew without some clips.

    Returns:
        How many captions its clips have.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    is_whole = not shard.removed and number == shard.num_samples
    num_captions = 0
    with ExitStack() as opened:
        reader = opened.enter_context(open_shard(finished.output, shard, number))
        tar = None
        if not is_whole:
            tar = opened.enter_context(TarFile(opened.enter_context(written_aside(place))))
        for clip in reader.clips:
            num_captions += len(clip_of(json.loads(reader.read(clip, "json"))).captions)
            if tar is not None:
                tar.add_sample(clip.key, {name: reader.read(clip, name) for name in clip.members})
        if is_whole and isinstance(finished.output, FolderOutput):
            _link(reader.path.resolve(), place)
        elif is_whole:
            with written_aside(place) as aside:
                shutil.copyfile(reader.path, aside)
    return num_captions


def _link(origin: Path, place: Path) -> None:
    with suppress(FileNotFoundError):
        if place.samefile(origin):
            return
    aside = place.with_name(f".{place.name}.part")
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(origin)
    except OSError:  # another disk, or one without hard links
        aside.symlink_to(origin)
    aside.replace(place)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Tars of shards that are no longer, and the old index: a folder must not look finished before it is."""
    shutil.rmtree(folder / META, ignore_errors=True)
    for path in folder.glob("*.tar*"):
        if path.name.partition(".")[0] not in names or path.suffix == ".idx":
            path.unlink()


def _prepare(finished: FinishedSet, folder: Path, splits: list[str], workers: int) -> None:
    parts = [argument for split in splits for argument in ("--split-parts", f"{split}:{split}-[0-9]*\\.tar")]
    if "v" in finished.settings.modalities:
        middle = finished.settings.frames.count // 2
        kind, fields = "CaptioningSample", {"image": f"frame_{middle:02d}.jpg", "caption": "txt"}
    else:
        kind, fields = "TextSample", {"text": "txt"}
    number = str(workers or available_cores())
    _run(["prepare", "--non-interactive", "--no-progress", "--num-workers", number, "--force-overwrite", *parts,
          "--sample-type", kind, "--field-map", json.dumps(fields), str(folder)])  # fmt: skip
    _run(["lint", "--parallel", number, "--split-parts", ",".join(splits), str(folder)])


def _run(arguments: list[str]) -> None:
    """Runs the tool.

    Raises:
        ValorDataError: it fails, or finds fault.
    """
    found = tool()
    if found is None:
        raise ConfigError("--layout energon: its tool is gone: pip install 'valor-data[energon]'")
    done = subprocess.run(
        [found, *arguments], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    if done.returncode:
        words = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ValorDataError(f"energon {arguments[0]} fails: {' / '.join(words[-3:])[:600]}")

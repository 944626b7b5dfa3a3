"""`valor-data show`: everything about a clip, with its pictures and its mel drawn in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from valor_data.cli.options import Json, Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.text import Text

    from valor_data.look.show import Shown

MEL_ROWS = 12
PICTURES_A_ROW = 5
WIDEST = 120
"""Drawings take the terminal's width, and at most so many columns."""


def show_command(
    key: Annotated[str, typer.Argument(help="A clip's key, or a video id. May begin with -.")],
    work: Work = Path(),
    shards: Annotated[
        str | None,
        typer.Option(help="Look in shards alone: a folder, a tar, s3://BUCKET/SET.", show_default="the work folder"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show everything about a clip: captions, labels, its story, facts, files, pictures and mel."""
    from valor_data.cli.output import console, print_json
    from valor_data.look.show import MAX_CLIPS

    found = _find(key, work, shards)
    if isinstance(found, dict):
        _show_rejected(found, as_json)
        return
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    out = console()
    for number, one in enumerate(found[:MAX_CLIPS]):
        if number:
            out.print()
        print_shown(out, one)


def _find(key: str, work: Path, shards: str | None) -> list[Shown] | dict[str, Any]:
    """The clips, or the annotation rows that never became one."""
    from valor_data.errors import ValorDataError
    from valor_data.look.shard_set import find_set
    from valor_data.look.show import show_from_shards, show_from_work
    from valor_data.look.why import rejected_rows
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    if shards is not None:
        return show_from_shards(find_set(shards), key)
    if not folder.ledger.exists() and folder.shards.is_dir():
        return show_from_shards(find_set(folder.root), key)
    try:
        return show_from_work(folder, key)
    except ValorDataError:
        rejects = rejected_rows(folder.rejects, key)
        if not rejects:
            raise
        return {"key": key, "rejected": rejects}


def _show_rejected(answer: dict[str, Any], as_json: bool) -> None:
    from valor_data.cli.look import print_rejected
    from valor_data.cli.output import print_json

    if as_json:
        print_json([answer])
    else:
        print_rejected(answer)


def print_shown(out: Console, one: Shown) -> None:
    """One clip, section by section; what a clip does not have takes no line."""
    tree = one.to_dict()
    _print_head(out, one, tree)
    _print_annotation(out, tree["annotation"])
    _print_story(out, tree)
    _print_media(out, tree)
    if one.note:
        out.print(f"\n[red]not read:[/] {_plain(one.note)}")
    if one.stored is None:
        return
    _print_sample(out, tree["sample"])
    _draw_pictures(out, one)
    _draw_mel(out, one)


def _print_head(out: Console, one: Shown, tree: dict[str, Any]) -> None:
    from valor_data.clip import parse_key
    from valor_data.errors import ManifestError

    out.print(f"[bold]{_plain(one.key)}[/]")
    split = tree.get("split") or (one.clip.split if one.clip else "")
    words = [f"split {_plain(split)}"] if split else []
    try:
        video_id, start, end = parse_key(one.key)
        words += [f"{start:.3f} to {end:.3f} s of {_plain(video_id)}", f"{end - start:.3f} s"]
    except ManifestError:
        words.append("its end is not known yet")
    out.print(f"[dim]{' · '.join(words)}[/]")


def _print_annotation(out: Console, annotation: dict[str, Any] | None) -> None:
    if annotation is None:
        return
    _heading(out, "captions", annotation["captions"])
    for caption in annotation["captions"]:
        _row(out, caption["role"], _plain(caption["text"]))
    names = annotation["label_names"]
    labels = annotation["labels"]
    _heading(out, "labels", labels)
    for number, label in enumerate(labels):
        _row(out, label, _plain(names[number]) if number < len(names) and names[number] != label else "")
    _heading(out, "questions", annotation["questions"])
    for question in annotation["questions"]:
        answers = " / ".join(map(_plain, question["answers"]))
        _row(out, question["question_id"], f"{_plain(question['question'])}  [bold]{answers}[/]")


def _print_story(out: Console, tree: dict[str, Any]) -> None:
    stages = tree.get("stages") or {}
    if tree["in_shard"] is not None:
        stages = {"listed": {**tree["in_shard"], "detail": ""}}
    _heading(out, "story", True)
    if not stages:
        _row(out, "", "not tried yet: run `valor-data fetch`")
    for stage, told in stages.items():
        colour = {"kept": "green", "dropped": "yellow", "waiting": "cyan"}.get(told["status"], "default")
        reason = f" [bold]{told['reason']}[/]: {told['meaning']}" if told["reason"] else ""
        _row(out, stage, f"[{colour}]{told['status']}[/]{reason}")
        if told["reason"]:
            _row(out, "", f"what to do: {told['action']}")
        if told["detail"]:
            _row(out, "", f"in full: {_plain(told['detail'])}")
    if "next" in tree:
        _row(out, "next", tree["next"])


def _print_media(out: Console, tree: dict[str, Any]) -> None:
    media = tree.get("media")
    sample = (tree["sample"] or {}).get("json") or {}
    facts = tree.get("facts") or sample.get("facts")
    _heading(out, "media", media or facts)
    if media:
        offset = f", its second 0 is second {media['offset_seconds']:g}" if media["offset_seconds"] else ""
        _row(out, "file", f"{_plain(media['path'])}, {media['size_bytes']:,} bytes{offset}")
    source = (media or {}).get("source") or {name: text for name, text in (sample.get("source") or {}).items() if text}
    if source:
        _row(out, "from", _plain(", ".join(f"{name} {value}" for name, value in source.items())))
    if facts:
        _print_facts(out, facts)


def _print_facts(out: Console, facts: dict[str, Any]) -> None:
    if facts["has_video"]:
        turned = f", turned {facts['rotation_degrees']}°" if facts["rotation_degrees"] else ""
        still = ", a still picture" if facts["still"] else ""
        _row(
            out,
            "picture",
            f"{facts['width_px']}x{facts['height_px']} {_plain(facts['video_codec'])}, {facts['fps']:g} a second"
            f"{turned}{still}, there for {facts['video_coverage']:.0%} of the clip",
        )
    else:
        _row(out, "picture", "none")
    if facts["has_audio"]:
        _row(
            out,
            "sound",
            f"{_plain(facts['audio_codec'])} {facts['sample_rate_hz']:,} Hz, {_channels(facts)}, there for "
            f"{facts['audio_coverage']:.0%}; RMS {facts['rms_dbfs']:.1f}, peak {facts['peak_dbfs']:.1f} dBFS, "
            f"{facts['silence_share']:.0%} silent",
        )
    else:
        _row(out, "sound", "none")


def _channels(facts: dict[str, Any]) -> str:
    number = int(facts["num_channels"])
    return {1: "mono", 2: "stereo"}.get(number, f"{number} channels")


def _print_sample(out: Console, sample: dict[str, Any]) -> None:
    _heading(out, "sample", True)
    _row(out, "tar", _plain(sample["tar"]))
    members = sample["members"]
    frames = [name for name in members if name.startswith("frame_")]
    rows = {name: (members[name]["offset"], members[name]["size"]) for name in members if name not in frames[1:]}
    for name, (offset, size) in sorted(rows.items(), key=lambda item: item[1]):
        if frames and name == frames[0]:
            size = sum(members[frame]["size"] for frame in frames)
            name = f"{len(frames)} frames"
        _row(out, name, f"{size:>9,} bytes at {offset:,}")


def _draw_pictures(out: Console, one: Shown) -> None:
    pictures = one.pictures()
    if not pictures or not _has_colour(out):
        return
    from rich.text import Text

    from valor_data.look.blocks import thumbnail

    moments = one.details.get("frame_moments", [])
    _heading(out, "frames", True)
    columns = (_width(out) - 2) // PICTURES_A_ROW - 1
    for first in range(0, len(pictures), PICTURES_A_ROW):
        row = [_half_blocks(thumbnail(jpeg, columns, columns)) for jpeg in pictures[first : first + PICTURES_A_ROW]]
        for line in range(max(map(len, row))):
            text = Text("  ")
            for cells in row:
                cell = cells[line] if line < len(cells) else Text()
                text.append_text(cell).append(" " * (columns - len(cell) + 1))
            out.print(text)
        times = [f"{moment:.2f} s" for moment in moments[first : first + PICTURES_A_ROW]]
        out.print("[dim]  " + "".join(time.ljust(columns + 1) for time in times) + "[/]")


def _draw_mel(out: Console, one: Shown) -> None:
    from valor_data.look.blocks import mel_blocks, mel_characters

    mel = one.mel()
    if mel is None or not mel.size:
        return
    from rich.text import Text

    seconds = one.details["end"] - one.details["start"]
    _heading(out, f"mel[/]  [dim]{len(mel)} frames of {mel.shape[1]} bands, low sounds at the bottom", True)
    columns = min(_width(out) - 4, len(mel))
    if _has_colour(out):
        lines = _half_blocks(mel_blocks(mel, columns, MEL_ROWS))
    else:
        lines = [Text(line) for line in mel_characters(mel, columns, MEL_ROWS)]
    edges = ("  ", "") if _has_colour(out) else (" |", "|")
    for line in lines:
        out.print(Text(edges[0]).append_text(line).append(edges[1]), soft_wrap=True)
    out.print("[dim]  " + _time_scale(columns, seconds) + "[/]")


def _time_scale(columns: int, seconds: float) -> str:
    """Times under a drawing: at its start, at its end, and at quarters where there is room."""
    marks = [" "] * columns
    for quarter in range(5 if columns >= 50 else 2):
        share = quarter / 4 if columns >= 50 else quarter
        word = f"{seconds * share:.1f} s" if quarter else "0 s"
        at = min(round(share * columns), columns - len(word))
        if at >= 0:
            marks[at : at + len(word)] = word
    return "".join(marks)


def _half_blocks(pixels: NDArray[np.uint8]) -> list[Text]:
    """Rows of cells, two pixels each: the upper one as the colour of a half block, the lower one behind it."""
    from rich.style import Style
    from rich.text import Text

    lines = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            line.append("▀", Style(color=_name(above), bgcolor=_name(below)))
        lines.append(line)
    return lines


def _name(colour: list[int]) -> str:
    return "#" + bytes(colour).hex()


def _has_colour(out: Console) -> bool:
    return out.is_terminal and out.color_system is not None and not out.no_color and out.encoding.startswith("utf")


def _width(out: Console) -> int:
    return min(out.width, WIDEST) if out.is_terminal else 80


def _heading(out: Console, words: str, is_there: object) -> None:
    if is_there:
        out.print(f"\n[bold]{words}[/]")


def _row(out: Console, name: str, words: str) -> None:
    """A name and what belongs to it, wrapped beside the name."""
    from rich.padding import Padding
    from rich.table import Table

    if not out.is_terminal:
        out.print(f"  {_plain(name):<12} {words}".rstrip())
        return
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=max(12, len(name)), style="dim")
    table.add_column(overflow="fold")
    table.add_row(_plain(name), words)
    out.print(Padding(table, (0, 0, 0, 2)))


def _plain(text: str) -> str:
    """A text from outside, as it is: no mark-up, and nothing that a terminal would obey."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in str(text)))

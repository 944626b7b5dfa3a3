"""`valor-data view`: shards in a browser on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from valor_data.look.shard_set import ShardSet


def view_command(
    shards: Annotated[
        list[str] | None,
        typer.Argument(help="A work folder, folders of tars, tars, s3://BUCKET/SET. [default: the current folder]"),
    ] = None,
    work: Annotated[Path | None, typer.Option(help="The same as naming a work folder.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any.", show_default="8642, or any")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for the search index.", show_default="WORK/cache, or ~/.cache/valor-data"),
    ] = None,
    outside_media: Annotated[
        bool, typer.Option("--outside-media", help="Play media outside of the work folder too (a folder source).")
    ] = False,
) -> None:
    """Browse shards in a browser: search captions and labels, filter, see frames and mel, play the sound.

    The server is this machine's alone (127.0.0.1) and read-only: whoever is logged in here can open the page, nobody
    else. Ctrl-C ends it.
    """
    from valor_data.look.shard_set import find_set
    from valor_data.look.view.catalogue import Catalogue
    from valor_data.look.view.index import default_cache
    from valor_data.look.view.search import Index
    from valor_data.look.view.server import open_server

    found = find_set([*(shards or []), *([str(work)] if work is not None else [])] or ["."])
    index = Index(_index(found, cache or default_cache(found)))
    catalogue = Catalogue(found, index, outside_media=outside_media)
    with open_server(catalogue, index, title_of(found), port) as server:
        typer.echo(f"{index.num_clips:,} clips: {server.url}   (Ctrl-C ends it)")
        if open_browser:
            import webbrowser

            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")
    index.close()


def _index(found: ShardSet, cache: Path) -> Path:
    from valor_data.cli.output import progress
    from valor_data.look.view.index import ready_index

    bar: Any = progress()
    try:
        return ready_index(
            found,
            cache,
            on_start=lambda total, unit: bar.start("index", total, unit),
            on_rows=lambda number: bar.advance("read", count=number),
        )
    finally:
        bar.finish()


def title_of(found: ShardSet) -> str:
    """What a set is called on its page: the last name of its place."""
    names = [place.rstrip("/").rpartition("/")[2] if place != "." else Path.cwd().name for place in found.places]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

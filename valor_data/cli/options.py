"""Options that several commands share: one name, one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Work = Annotated[Path, typer.Option(help="The work folder.", show_default="the current folder")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Limit = Annotated[int | None, typer.Option(min=0, help="Only the first so many.")]
Sample = Annotated[int | None, typer.Option(min=0, help="Only so many, drawn with --seed.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of --sample.")]
Workers = Annotated[int | None, typer.Option(help="Processes; 0: one a core.", show_default="one a core")]
Executor = Annotated[
    str | None,
    typer.Option(help="local: processes here; ray: tasks on a Ray cluster.", show_default="local"),
]
Address = Annotated[
    str | None,
    typer.Option(help="The Ray cluster: host:port or auto.", show_default="a Ray of our own on this machine"),
]
PartOption = Annotated[
    str | None, typer.Option("--part", help="Do only this part of the shards, such as 3/16; then: ledger merge.")
]
Modalities = Annotated[
    str | None, typer.Option(help="What the run holds: av, v or a.", show_default="av, or as begun with")
]

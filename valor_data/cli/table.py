"""Every command by name: where its function is, and one line about it. A command's module is loaded when it is used.

`--help` needs names and lines alone: with two dozen commands, loading them all would be most of what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
_HELP = {"help_option_names": ["-h", "--help"]}
_IDS_AS_THEY_ARE = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
"""An id may begin with a dash, and even with -h."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A command, or a group of commands.

    Attributes:
        module: of `valor_data.cli`.
        name: of the function in it, or of the `typer.Typer` of a group.
        about: one line for the list of commands.
        settings: of its click context.
    """

    module: str
    name: str
    about: str
    settings: Mapping[str, Any] = field(default_factory=lambda: _HELP)

    def build(self, name: str) -> Any:
        """The command, for click."""
        found = getattr(import_module(f"valor_data.cli.{self.module}"), self.name)
        if isinstance(found, typer.Typer):
            found.info.name = name
            return typer.main.get_group(found)
        alone = typer.Typer(**_PLAIN)
        alone.command(name, short_help=self.about, context_settings=dict(self.settings))(found)
        return typer.main.get_command(alone)


COMMANDS: dict[str, Entry] = {
    "manifest": Entry("manifest", "manifest_command", "Annotation files in, one checked list of clips out."),
    "fetch": Entry("fetch", "fetch_command", "Bring the videos of a manifest into a work folder."),
    "filter": Entry("filter", "filter_command", "Measure each clip once, decide which are kept."),
    "shard": Entry("shard", "shard_command", "Build the shards that are missing or stale."),
    "verify": Entry("look", "verify_command", "Read every shard as a stranger would."),
    "status": Entry("look", "status_command", "Show the funnel, and the losses by reason."),
    "why": Entry("look", "why_command", "Explain what became of a clip.", _IDS_AS_THEY_ARE),
    "show": Entry("show", "show_command", "Show everything about a clip.", _IDS_AS_THEY_ARE),
    "view": Entry("view", "view_command", "Browse shards in a browser, on this machine alone."),
    "compare": Entry("compare", "compare_command", "Compare two builds or two lists of clips."),
    "export": Entry("export", "export_command", "Write a finished set in the form that other code reads."),
    "card": Entry("publish", "card_command", "Write a set's card, to look at before it is published."),
    "push": Entry("publish", "push_command", "Publish a finished set on the Hugging Face Hub."),
    "remove": Entry("change", "remove_command", "Take clips out of a set for good."),
    "audit": Entry("change", "audit_command", "Ask whether the sources are still there."),
    "extend": Entry("change", "extend_command", "Make further members beside a finished set."),
    "recaption": Entry("change", "recaption_command", "Put other captions into a finished set."),
    "stats": Entry("stats", "stats_command", "Compute figures of a set: clips, captions, sound, picture."),
    "report": Entry("report", "report_command", "Write one page about a set, with clips to see and hear."),
    "train": Entry("train", "train_command", "Train VALOR on shards."),
    "eval": Entry("evaluate", "eval_command", "Measure a trained model."),
    "caption": Entry("evaluate", "caption_command", "Write captions for video files."),
    "convert": Entry("train", "convert_command", "Take over a released VALOR checkpoint."),
    "run": Entry("run", "run_command", "Go the whole road that a TOML file describes."),
    "plan": Entry("care", "plan_command", "Say what a run will take."),
    "doctor": Entry("care", "doctor_command", "Look at this machine before a run does."),
    "deadlinks": Entry("care", "deadlinks_app", "Lists of videos that are lost for good."),
    "ledger": Entry("care", "ledger_app", "What the ledger knows."),
    "demo": Entry("demo", "demo_command", "Go the whole road over a synthetic world."),
}
"""In the order of the help. Adding a command: its function in a module of this folder, and a line here."""


class _Built(dict[str, Any]):
    """The commands by name, each built when it is asked for."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(COMMANDS))

    def get(self, name: str, default: Any = None) -> Any:
        if name in self and self[name] is None:
            self[name] = COMMANDS[name].build(name)
        return super().get(name, default)


class Commands(TyperGroup):
    """The group of all commands: its help is written from the table, and loads none of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Built()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.about) for name, entry in COMMANDS.items()])

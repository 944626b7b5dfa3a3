"""What the demo's world will hold, drawn from a seed before a single picture is made.

A cell is a pair of a visual and a sound class. A video is a row of parts, each showing one cell; a clip is one
of these parts, and the parts around it show other classes, so that a cut in the wrong place can be seen and
heard.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random

from valor_data.clip import Seconds, from_ms, make_key
from valor_data.demo.classes import SOUND_CLASSES, VISUAL_CLASSES, write_caption
from valor_data.demo.draw import Look
from valor_data.demo.synth import Voice
from valor_data.errors import ConfigError

Cell = tuple[int, int]

ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""The 64 characters of YouTube's ids."""

HUSHED_RMS_DBFS, QUIET_RMS_DBFS = -70.0, -52.0
"""A sound too quiet to be kept, and one just loud enough (the default threshold is -60)."""

LONG_CLIPS_PER_CELL = 12
"""Of the world that the demo's longer training takes: enough that a small model cannot know them by heart."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """How large a world is and what is wrong in it. The same settings give the same bytes.

    Attributes:
        seed: everything is drawn from it.
        num_visual_classes: 2 to 12.
        num_sound_classes: 2 to 12.
        train_clips_per_cell: good training clips of each pair of classes.
        val_clips: good validation clips, spread over the pairs. The test split always has each pair once.
        min_clip_seconds: shortest clip.
        max_clip_seconds: longest clip.
        width_px: width of the pictures, even.
        height_px: height of the pictures, even.
        fps: pictures a second.
        num_dead: clips whose video is nowhere.
        num_silent: clips of digital silence.
        num_hushed: clips at -70 dBFS, which count as silent too.
        num_quiet: clips at -52 dBFS, which are kept.
        num_without_sound: videos with no sound track.
        num_without_picture: videos with a sound track only.
        num_damaged: files cut off, by turns without their index and in the first quarter.
        num_pages: HTML pages with a video's name.
        num_still: clips whose picture does not move, which are kept.
        num_bare_numbers: captions that are only a number, which the manifest rejects.
    """

    seed: int = 0
    num_visual_classes: int = 12
    num_sound_classes: int = 12
    train_clips_per_cell: int = 4
    val_clips: int = 32
    min_clip_seconds: Seconds = 3.0
    max_clip_seconds: Seconds = 4.5
    width_px: int = 128
    height_px: int = 96
    fps: int = 10
    num_dead: int = 6
    num_silent: int = 3
    num_hushed: int = 3
    num_quiet: int = 2
    num_without_sound: int = 4
    num_without_picture: int = 1
    num_damaged: int = 2
    num_pages: int = 1
    num_still: int = 1
    num_bare_numbers: int = 2

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {getattr(self, name)}: expected a whole number from 2 to {len(classes)}"
            for name, classes in (("num_visual_classes", VISUAL_CLASSES), ("num_sound_classes", SOUND_CLASSES))
            if not 2 <= getattr(self, name) <= len(classes)
        ]
        problems += [
            f"{f.name} = {getattr(self, f.name)}: expected 0 or more"
            for f in fields(self)
            if f.name not in ("seed", "num_visual_classes", "num_sound_classes") and getattr(self, f.name) < 0
        ]
        problems += [
            f"{name} = {getattr(self, name)}: expected an even number of pixels, 32 or more"
            for name in ("width_px", "height_px")
            if getattr(self, name) % 2 or getattr(self, name) < 32
        ]
        if self.fps < 1:
            problems.append(f"fps = {self.fps}: expected 1 or more")
        if not 1.0 <= self.min_clip_seconds <= self.max_clip_seconds:
            problems.append(
                f"clips of {self.min_clip_seconds} to {self.max_clip_seconds} s: expected 1 s or more, shortest first"
            )
        if problems:
            raise ConfigError(problems)

    @classmethod
    def small(cls, seed: int = 0) -> WorldSettings:
        """A world of three by three classes, made in a second or two: for tests."""
        return cls(
            seed=seed, num_visual_classes=3, num_sound_classes=3, train_clips_per_cell=1, val_clips=3,
            min_clip_seconds=1.5, max_clip_seconds=2.0, width_px=96, height_px=72, num_dead=2, num_silent=1,
            num_hushed=1, num_quiet=1, num_without_sound=1, num_bare_numbers=1,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a video that shows and sounds one cell.

    Attributes:
        visual: index into `VISUAL_CLASSES`.
        sound: index into `SOUND_CLASSES`.
        length_ms: how long it lasts.
        look: how the picture differs from others of its class.
        voice: how the sound does; None for digital silence.
        still: the picture does not move.
    """

    visual: int
    sound: int
    length_ms: int
    look: Look
    voice: Voice | None
    still: bool = False


@dataclass(frozen=True, slots=True)
class Video:
    """One upload, from which a file is made.

    Attributes:
        video_id: 11 characters of YouTube's alphabet.
        parts: what it shows, in order.
        seed: of its noise.
        rate_hz: samples a second of its sound.
        num_channels: 1 or 2.
        tracks: `av`, `v` (no sound track) or `a` (no picture).
        fault: `no_index` and `cut_off` (damaged), `page` (HTML), `dead` (no file) or nothing.
    """

    video_id: str
    parts: tuple[Part, ...]
    seed: int
    rate_hz: int
    num_channels: int
    tracks: str = "av"
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a clip because it was made.

    Attributes:
        key: the clip's key.
        video_id: its video.
        start: first second.
        end: second after the last.
        split: `train`, `val` or `test`.
        caption: the sentence in the annotations.
        visual: name of its visual class.
        sound: name of its sound class.
        kind: `plain` (the clip is the whole video), `long` and `pair` (a span of a longer one), or what is odd.
        expect: how it ends under the defaults: `kept`, `rejected:caption`, or `status:reason`, several joined
            by `|` where the source decides (a dead link is gone from a URL and missing from a folder).
    """

    key: str
    video_id: str
    start: Seconds
    end: Seconds
    split: str
    caption: str
    visual: str
    sound: str
    kind: str
    expect: str

    def accepts(self, status: str, reason: str = "") -> bool:
        """Whether an outcome is right: `accepts("dropped", "silent")`; `kept` takes no reason."""
        return (f"{status}:{reason}" if reason else status) in self.expect.split("|")


@dataclass(frozen=True, slots=True)
class Plan:
    """Every video and every clip of a world, clips in the order of the annotations."""

    videos: tuple[Video, ...]
    truth: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class _Odd:
    """A kind of clip that is not like the others."""

    kind: str
    count: int
    expect: str
    tracks: str = "av"
    fault: str = ""
    rms_dbfs: float | None = -20.0
    still: bool = False


def _odd_kinds(s: WorldSettings) -> tuple[_Odd, ...]:
    not_opened = "dropped:undecodable|dropped:not_media"
    without_index, cut_off = (s.num_damaged + 1) // 2, s.num_damaged // 2
    return (
        _Odd("dead", s.num_dead, "dropped:gone|waiting:gone_once|waiting:missing", fault="dead"),
        _Odd("silent", s.num_silent, "dropped:silent", rms_dbfs=None),
        _Odd("hushed", s.num_hushed, "dropped:silent", rms_dbfs=HUSHED_RMS_DBFS),
        _Odd("quiet", s.num_quiet, "kept", rms_dbfs=QUIET_RMS_DBFS),
        _Odd("without_sound", s.num_without_sound, "dropped:no_audio", tracks="v"),
        _Odd("without_picture", s.num_without_picture, "dropped:no_video", tracks="a"),
        _Odd("no_index", without_index, not_opened, fault="no_index"),
        _Odd("cut_off", cut_off, f"dropped:short|{not_opened}", fault="cut_off"),
        _Odd("page", s.num_pages, not_opened, fault="page"),
        _Odd("still", s.num_still, "kept", still=True),
        _Odd("bare_number", s.num_bare_numbers, "rejected:caption"),
    )


class _Planner:
    """Draws videos and clips, one after the other, from one seed."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self.dice = Random(f"valor-data demo {settings.seed}")  # noqa: S311 (a world, not a secret)
        self.cells = [(v, s) for v in range(settings.num_visual_classes) for s in range(settings.num_sound_classes)]
        self.videos: list[Video] = []
        self.truth: dict[str, list[Truth]] = {"train": [], "val": [], "test": []}
        self.ids: set[str] = set()

    def video_id(self) -> str:
        """A new id; every tenth begins with `-`, every tenth with `_`; none differ in case alone."""
        first = {3: "-", 8: "_"}.get(len(self.ids) % 10)
        while True:
            rest = "".join(self.dice.choices(ID_ALPHABET, k=11 if first is None else 10))
            candidate = (first or "") + rest
            if candidate.lower() not in self.ids:
                self.ids.add(candidate.lower())
                return candidate

    def clip_ms(self) -> int:
        s = self.settings
        return self.dice.randint(round(1000 * s.min_clip_seconds), round(1000 * s.max_clip_seconds))

    def part(self, cell: Cell, length_ms: int, odd: _Odd | None = None) -> Part:
        dice = self.dice
        look = Look(
            size=dice.uniform(0.48, 0.68),
            turns_per_second=dice.uniform(0.35, 0.6),
            phase=dice.random(),
            lane=dice.uniform(-1, 1),
            ground=dice.randint(10, 60),
        )
        voice = Voice(
            pitch=dice.uniform(0.94, 1.06),
            tempo=dice.uniform(0.93, 1.07),
            phase=dice.random(),
            rms_dbfs=dice.uniform(-26, -16),
        )
        if odd is None:
            return Part(*cell, length_ms, look, voice)
        if odd.rms_dbfs is None:
            return Part(*cell, length_ms, look, None, odd.still)
        return Part(*cell, length_ms, look, Voice(voice.pitch, voice.tempo, voice.phase, odd.rms_dbfs), odd.still)

    def filler(self, beside: list[Cell]) -> Part:
        """A part of other classes than its neighbours'."""
        visuals, sounds = {v for v, _ in beside}, {s for _, s in beside}
        free = [c for c in self.cells if c[0] not in visuals and c[1] not in sounds] or self.cells
        return self.part(self.dice.choice(free), self.dice.randint(1000, 3500))

    def add(self, parts: list[tuple[Part, bool]], split: str, kind: str, odd: _Odd | None = None) -> None:
        """Adds a video of these parts; those marked True are clips."""
        odd = odd or _Odd(kind, 0, "kept")
        video = Video(
            self.video_id(),
            tuple(part for part, _ in parts),
            seed=self.dice.getrandbits(32),
            rate_hz=self.dice.choice((22_050, 22_050, 32_000, 44_100)),
            num_channels=self.dice.choice((1, 1, 1, 2)),
            tracks=odd.tracks,
            fault=odd.fault,
        )
        self.videos.append(video)
        start_ms = 0
        for part, is_clip in parts:
            end_ms = start_ms + part.length_ms
            if is_clip:
                visual, sound = VISUAL_CLASSES[part.visual], SOUND_CLASSES[part.sound]
                caption = write_caption(visual, sound, self.dice)
                if kind == "bare_number":
                    caption = str(self.dice.randint(0, 99))
                start, end = from_ms(start_ms), from_ms(end_ms)
                self.truth[split].append(
                    Truth(
                        make_key(video.video_id, start, end), video.video_id, start, end, split, caption,
                        visual.name, sound.name, kind, odd.expect,
                    )
                )  # fmt: skip
            start_ms = end_ms

    def add_split(self, split: str, cells: list[Cell]) -> None:
        """Adds good clips: half are whole videos, the others spans of longer ones."""
        left = list(cells)
        self.dice.shuffle(left)
        while left:
            cell = left.pop()
            clip = self.part(cell, self.clip_ms())
            chance = self.dice.random()
            if chance < 0.5:
                self.add([(clip, True)], split, "plain")
            elif chance < 0.75 or not left:
                around = [(self.filler([cell]), False), (clip, True), (self.filler([cell]), False)]
                self.add(around, split, "long")
            else:
                other = left.pop()
                second = self.part(other, self.clip_ms())
                between = (self.filler([cell, other]), False)
                self.add([(clip, True), between, (second, True)], split, "pair")

    def add_odd(self, odd: _Odd) -> None:
        for number in range(odd.count):
            part = self.part(self.dice.choice(self.cells), self.clip_ms(), odd)
            self.add([(part, True)], "val" if number % 4 == 3 else "train", odd.kind, odd)


def plan_world(settings: WorldSettings) -> Plan:
    """Draws a whole world: the same settings give the same plan."""
    planner = _Planner(settings)
    planner.add_split("train", planner.cells * settings.train_clips_per_cell)
    rounds = settings.val_clips // len(planner.cells) + 1
    val_cells = [cell for _ in range(rounds) for cell in planner.dice.sample(planner.cells, len(planner.cells))]
    planner.add_split("val", val_cells[: settings.val_clips])
    planner.add_split("test", planner.cells)
    for odd in _odd_kinds(settings):
        planner.add_odd(odd)
    for clips in planner.truth.values():
        planner.dice.shuffle(clips)
    return Plan(tuple(planner.videos), tuple(t for clips in planner.truth.values() for t in clips))

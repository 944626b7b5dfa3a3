"""The demo's world is what its truth says, and the same every time."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from valor_data.clip import make_key
from valor_data.demo import Truth, World, WorldSettings, make_world
from valor_data.demo.classes import SOUND_CLASSES, TRAITS, VISUAL_CLASSES, named_in
from valor_data.demo.draw import MOTIONS
from valor_data.demo.plan import ID_ALPHABET, Plan, plan_world
from valor_data.demo.synth import RECIPES
from valor_data.errors import REASONS, ConfigError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "w", WorldSettings.small(), workers=1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_world(WorldSettings())


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def of_kind(world: World, *kinds: str) -> list[Truth]:
    found = [t for t in world.truth if t.kind in kinds]
    assert found, kinds
    return found


def sound_of(path: Path, truth: Truth) -> np.ndarray:
    """The clip's samples, `[channels, N]`, cut to its span."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        wave = np.hstack([frame.to_ndarray() for frame in container.decode(audio=0)])
    return wave[:, round(truth.start * rate) : round(truth.end * rate)]


def pictures_of(path: Path, truth: Truth) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0) if truth.start <= f.time < truth.end]


def dbfs(wave: np.ndarray) -> float:
    return 10 * np.log10(float(np.mean(wave**2)) + 1e-12)


def test_same_seed_same_bytes_whatever_the_workers(world: World, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    again = make_world(
        tmp_path / "w", WorldSettings.small(), lambda done, total: steps.append((done, total)), workers=2
    )
    assert digests(again.folder) == digests(world.folder)
    total = len(plan_world(WorldSettings.small()).videos)
    assert steps == [(done, total) for done in range(total + 1)]


def test_another_seed_is_another_world(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "w", WorldSettings.small(seed=1), workers=1)
    assert not {t.video_id for t in other.truth} & {t.video_id for t in world.truth}
    assert {t.caption for t in other.truth} != {t.caption for t in world.truth}


def test_a_complete_world_is_taken_as_it_is(world: World) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")}
    assert make_world(world.folder, WorldSettings.small(), workers=1) == world
    assert {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")} == before


def test_an_unfinished_or_other_world_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    first = make_world(folder, WorldSettings.small(seed=2), workers=1)
    complete = digests(folder)
    (folder / "world.json").unlink()  # as a kill would leave it: the stamp is written last
    next(first.media.iterdir()).write_bytes(b"half")
    make_world(folder, WorldSettings.small(seed=2), workers=1)
    assert digests(folder) == complete
    other = make_world(folder, WorldSettings.small(seed=3), workers=1)
    assert {p.stem for p in other.media.iterdir()} <= {v.video_id for v in plan_world(other.settings).videos}


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds files that are not the demo's: name an empty or a new folder"):
        make_world(tmp_path, WorldSettings.small(), workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_wrong_settings_are_reported_all_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        WorldSettings(num_visual_classes=13, num_dead=-1, width_px=33, min_clip_seconds=5, max_clip_seconds=4, fps=0)
    assert error.value.problems == [
        "num_visual_classes = 13: expected a whole number from 2 to 12",
        "num_dead = -1: expected 0 or more",
        "width_px = 33: expected an even number of pixels, 32 or more",
        "fps = 0: expected 1 or more",
        "clips of 5 to 4 s: expected 1 s or more, shortest first",
    ]


def test_the_test_split_is_a_gallery(plan: Plan) -> None:
    test = [t for t in plan.truth if t.split == "test"]
    pairs = Counter((t.visual, t.sound) for t in test)
    names = itertools.product((v.name for v in VISUAL_CLASSES), (s.name for s in SOUND_CLASSES))
    assert pairs == Counter(dict.fromkeys(names, 1))
    assert {t.expect for t in test} == {"kept"}
    # neither eye nor ear alone can tell them apart
    assert set(Counter(t.visual for t in test).values()) == {12}
    assert set(Counter(t.sound for t in test).values()) == {12}


def test_train_and_val_hold_what_the_settings_ask(plan: Plan) -> None:
    s = WorldSettings()
    good = ("plain", "long", "pair")
    train = Counter((t.visual, t.sound) for t in plan.truth if t.split == "train" and t.kind in good)
    assert len(train) == 144 and set(train.values()) == {s.train_clips_per_cell}
    assert sum(t.split == "val" and t.kind in good for t in plan.truth) == s.val_clips
    kinds = Counter(t.kind for t in plan.truth)
    assert all(kinds[kind] > 100 for kind in good)
    assert {kind: count for kind, count in kinds.items() if kind not in good} == {
        "dead": s.num_dead, "silent": s.num_silent, "hushed": s.num_hushed, "quiet": s.num_quiet,
        "without_sound": s.num_without_sound, "without_picture": s.num_without_picture, "no_index": 1, "cut_off": 1,
        "page": s.num_pages, "still": s.num_still, "bare_number": s.num_bare_numbers,
    }  # fmt: skip


def test_ids_are_youtubes_and_stay_in_one_split(plan: Plan) -> None:
    ids = {v.video_id for v in plan.videos}
    assert len(ids) == len({i.lower() for i in ids}) == len(plan.videos)
    assert all(len(i) == 11 and set(i) <= set(ID_ALPHABET) for i in ids)
    kept = {t.video_id for t in plan.truth if t.expect == "kept"}
    assert sum(i.startswith("-") for i in kept) > 5 and sum(i.startswith("_") for i in kept) > 5
    splits: dict[str, set[str]] = {}
    for t in plan.truth:
        splits.setdefault(t.video_id, set()).add(t.split)
    assert {len(s) for s in splits.values()} == {1}
    assert sorted(Counter(t.video_id for t in plan.truth).values())[-1] == 2


def test_truth_has_keys_and_known_reasons(plan: Plan) -> None:
    assert len({t.key for t in plan.truth}) == len(plan.truth)
    for t in plan.truth:
        assert t.key == make_key(t.video_id, t.start, t.end)
        for word in t.expect.split("|"):
            status, _, reason = word.partition(":")
            assert t.accepts(status, reason)
            assert word in ("kept", "rejected:caption") or REASONS[reason].status == status
        assert not t.accepts("dropped", "crashed")


def test_every_class_can_be_drawn_and_synthesised() -> None:
    assert {v.motion for v in VISUAL_CLASSES} == set(MOTIONS)
    assert {s.name for s in SOUND_CLASSES} == set(RECIPES)
    for trait in ("shape", "colour"):
        assert set(Counter(getattr(v, trait) for v in VISUAL_CLASSES).values()) == {2}


def test_captions_name_what_is_seen_and_heard_in_words_that_vary(plan: Plan) -> None:
    visual = {v.name: v for v in VISUAL_CLASSES}
    sound = {s.name: s for s in SOUND_CLASSES}
    spoken = [t for t in plan.truth if t.kind != "bare_number"]
    for t in spoken:
        seen, heard, words = visual[t.visual], sound[t.sound], t.caption.lower()
        assert seen.colour in words and seen.shape in words
        assert any(noun in words for noun in heard.nouns)
        assert not any(o.colour in words.split() for o in VISUAL_CLASSES if o.colour != seen.colour)
        assert t.caption[0].isupper() and t.caption.endswith(".") and "{" not in t.caption
    assert len({t.caption for t in spoken}) > 0.8 * len(spoken)
    assert all(t.caption.isdigit() for t in plan.truth if t.kind == "bare_number")


def test_a_caption_names_its_own_traits_and_no_others(plan: Plan) -> None:
    for t in plan.truth:
        if t.kind != "bare_number":
            assert named_in(t.caption, t.visual, t.sound) == set(TRAITS), t.caption
    words = "a red circle spins while slow beeps sound"
    assert named_in(words, "red_circle", "slow_beeps") == {"shape", "colour", "sound"}
    assert named_in(words, "red_square", "hum") == {"colour"}
    assert named_in("a red green circle bounces around", "red_circle", "hum") == {"shape", "motion"}
    assert named_in("", "red_circle", "hum") == set()


def test_annotations_have_valors_released_form(world: World) -> None:
    assert [p.name for p in world.annotations] == ["desc_train.json", "desc_val.json", "desc_test.json"]
    rows = [row for path in world.annotations for row in json.loads(path.read_text())]
    assert rows == [{"video_id": f"{t.video_id}_{t.start:.3f}_{t.end:.3f}", "desc": t.caption} for t in world.truth]
    assert [t["key"] for t in json.loads(world.truth_file.read_text())] == [t.key for t in world.truth]


def test_kept_clips_show_and_sound_what_they_should(world: World) -> None:
    colours = {v.name: np.array(v.rgb) for v in VISUAL_CLASSES}
    for t in of_kind(world, "plain", "long", "pair"):
        path = world.media / f"{t.video_id}.mp4"
        for picture in pictures_of(path, t):
            near = np.abs(picture.astype(int) - colours[t.visual]).max(axis=2) < 60
            others = [c for c in colours.values() if (c != colours[t.visual]).any()]
            far = [(np.abs(picture.astype(int) - c).max(axis=2) < 60).mean() for c in others]
            assert near.mean() > 0.01, t.key  # the spans of longer videos show their own class, not their neighbours'
            assert max(far) < 0.005, t.key
        assert -32 < dbfs(sound_of(path, t)) < -15


def test_sounds_differ_as_their_names_say(tmp_path: Path) -> None:
    """A hum is low, a whistle is high, beeps come and go, chirps glide up or down."""
    settings = WorldSettings(train_clips_per_cell=0, val_clips=0, num_visual_classes=2, min_clip_seconds=2,
                             max_clip_seconds=2, width_px=32, height_px=32)  # fmt: skip
    world = make_world(tmp_path / "w", settings, workers=1)
    loudest: dict[str, float] = {}
    pauses: dict[str, float] = {}
    slope: dict[str, float] = {}
    for t in world.truth:
        if t.split != "test":
            continue
        path = world.media / f"{t.video_id}.mp4"
        wave = sound_of(path, t)[0]
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
        loudest[t.sound] = np.argmax(np.abs(np.fft.rfft(wave))) * rate / len(wave)
        window = rate // 40
        frames = wave[: len(wave) // window * window].reshape(-1, window)
        level = np.sqrt((frames**2).mean(axis=1))
        pauses[t.sound] = float((level < 0.2 * level.max()).mean())
        pitch = np.argmax(np.abs(np.fft.rfft(frames)), axis=1)
        steps = np.diff(pitch)[(level[1:] > 0.5 * level.max()) & (level[:-1] > 0.5 * level.max())]
        slope[t.sound] = float(np.median(steps)) if len(steps) else 0.0
    assert loudest["hum"] < 130 < 700 < loudest["slow_beeps"] < 900 < 2400 < loudest["whistle"]
    assert pauses["hum"] == pauses["whistle"] == 0
    assert all(pauses[s] > 0.2 for s in ("slow_beeps", "fast_beeps", "noise_bursts", "ticking", "thuds"))
    assert loudest["thuds"] < 130 and loudest["hiss"] > 4000 and pauses["hiss"] == pauses["warble"] == 0
    assert slope["falling_chirps"] < 0 < slope["rising_chirps"]


def test_odd_clips_are_odd_in_the_way_they_say(world: World) -> None:
    def path(t: Truth) -> Path:
        return world.media / f"{t.video_id}.mp4"

    assert not any(path(t).exists() for t in of_kind(world, "dead"))
    assert all(float(np.abs(sound_of(path(t), t)).max()) == 0 for t in of_kind(world, "silent"))
    assert all(-75 < dbfs(sound_of(path(t), t)) < -65 for t in of_kind(world, "hushed"))
    assert all(-54 < dbfs(sound_of(path(t), t)) < -51 for t in of_kind(world, "quiet"))
    assert all(b"<html>" in path(t).read_bytes() for t in of_kind(world, "page"))
    for kind, streams in (("without_sound", (1, 0)), ("without_picture", (0, 1))):
        for t in of_kind(world, kind):
            with av.open(str(path(t))) as container:
                assert (len(container.streams.video), len(container.streams.audio)) == streams
    for t in of_kind(world, "still"):
        first, *rest = pictures_of(path(t), t)
        assert all(np.abs(first.astype(int) - p).mean() < 1.5 for p in rest)  # a moving one: 3 and more
    for t in of_kind(world, "no_index"):
        with pytest.raises(av.error.InvalidDataError):
            av.open(str(path(t)))
    for t in of_kind(world, "cut_off"):
        assert sound_of(path(t), t).shape[1] < 0.5 * (t.end - t.start) * 22_050

"""Sets of other people: what becomes a manifest of them, and that their media arrive."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_media import SECONDS, make_video

from valor_data.archives.holdings import find_holding
from valor_data.clip import Clip
from valor_data.config import FetchSection
from valor_data.errors import ClipError, ConfigError, ManifestError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.sources import open_source
from valor_data.ledger import Ledger
from valor_data.manifest import ManifestOptions, ManifestResult, build_manifest, write_manifest
from valor_data.media.flac import audio_flac
from valor_data.media.probe import probe
from valor_data.media.wav import audio_wav
from valor_data.road import Driver, run_fetch, run_shard
from valor_data.road.asking import Selection
from valor_data.workdir import WorkDir


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("v") / "v.mp4").read_bytes()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def said(**told: Any) -> bytes:
    return json.dumps(told).encode()


def clips_of(result: ManifestResult) -> list[Clip]:
    return list(result.manifest.clips())


def bring(place: Path | str, clips: list[Clip], into: Path, member: str = "") -> list[Obtained | ClipError]:
    """What a source gives for each clip, one after another."""
    source = open_source(str(place), member)
    found: list[Obtained | ClipError] = []
    for number, clip in enumerate(clips):
        request = ClipRequest(number, clip.key or f"{clip.video_id}_00000000_open", clip.start, clip.end, clip.url)
        folder = into / str(number)
        folder.mkdir(parents=True)
        found.append(source.find(clip.video_id, clip.url, [request]).obtain([request], folder, FetchSection())[number])
    return found


def words(item: Obtained | ClipError) -> str:
    assert isinstance(item, ClipError)
    return f"{item.reason}: {item.detail}"


def test_a_plain_webdataset(tmp_path: Path, video: bytes) -> None:
    """mp4 and txt, numbers for names: whole videos, a caption each, the split by the tar's name."""
    members = {}
    for number in range(3):
        members |= {f"{number:04d}.mp4": video + bytes(number), f"{number:04d}.txt": f"Number {number} of.\n".encode()}
    tar(tmp_path / "set" / "train-000.tar", members)
    tar(tmp_path / "set" / "val-000.tar", {"0009.webm": video, "0009.txt": b"The last one."})
    result = build_manifest([tmp_path / "set"])
    clips = clips_of(result)
    assert [(c.video_id, c.start, c.end, c.split) for c in clips] == [
        *((f"{number:04d}", 0.0, None, "train") for number in range(3)), ("0009", 0.0, None, "val"),
    ]  # fmt: skip
    assert clips[2].captions[0].text == "Number 2 of."
    assert result.manifest.sources[0].format == "webdataset"
    found = bring(tmp_path / "set", clips, tmp_path / "into")
    assert [item.path.read_bytes() for item in found if isinstance(item, Obtained)] == [
        video, video + bytes(1), video + bytes(2), video,
    ]  # fmt: skip
    assert {item.whole_video for item in found if isinstance(item, Obtained)} == {True}


def test_names_and_spans_in_json(tmp_path: Path, video: bytes) -> None:
    """The id, span and captions that the JSON tells; the media are the clip, not the video it is of."""
    members = {}
    for number, start in enumerate((30.0, 52.5)):
        told = said(youtube_id="Dk3wLpond01", start_time=start, end_time=start + SECONDS, caption=["One.", "Two."],
                    label=7, url=["?"], split={"odd": 1}, id=number)  # fmt: skip
        members |= {f"a/{number}.json": told, f"a/{number}.video.mp4": video}
    path = tar(tmp_path / "part-0.tar", members)
    clips = clips_of(build_manifest([path]))
    assert [(c.key, c.split) for c in clips] == [
        ("Dk3wLpond01_00030000_00032000", "train"), ("Dk3wLpond01_00052500_00054500", "train"),
    ]  # fmt: skip
    assert [caption.text for caption in clips[0].captions] == ["One.", "Two."]
    first, second = bring(path, clips, tmp_path / "into")
    assert isinstance(first, Obtained) and isinstance(second, Obtained)
    assert (first.offset_seconds, second.offset_seconds, first.whole_video) == (30.0, 52.5, False)


def test_fields_that_somebody_names(tmp_path: Path, video: bytes) -> None:
    members = {"x/1.json": said(uid="a.b", says="Yes it is.", text="Not this."), "x/1.mp4": video,
               "y/1.json": said(uid="c/d", says="No it is not.", text="Nor that."), "y/1.mp4": video}  # fmt: skip
    path = tar(tmp_path / "set.tar", members)
    options = ManifestOptions(id_field="uid", caption_field="says")
    assert [(c.video_id, c.captions[0].text) for c in clips_of(build_manifest([path], options=options))] == [
        ("a.b", "Yes it is."), ("c/d", "No it is not."),
    ]  # fmt: skip
    with pytest.raises(ManifestError, match=r"no 'title' \(--caption-field\); fields found: 'uid', 'says'"):
        build_manifest([path], options=ManifestOptions(caption_field="title"))


def test_two_samples_of_one_name(tmp_path: Path, video: bytes) -> None:
    """Never one clip with the captions of two: the second is refused, and `__key__` tells them apart."""
    path = tar(tmp_path / "set.tar", {"x/1.mp4": video, "x/1.txt": b"One is.", "y/1.mp4": video, "y/1.txt": b"Two is."})
    result = build_manifest([path])
    assert [c.captions[0].text for c in clips_of(result)] == ["One is."]
    assert result.rejects_by_reason == {"duplicate": 1}
    assert "another sample is the clip '1' too; name what tells them apart with --id-field" in result.rejects.details[0]
    both = clips_of(build_manifest([path], options=ManifestOptions(id_field="__key__")))
    assert [c.video_id for c in both] == ["x/1", "y/1"]


def test_samples_that_cannot_be_used_are_listed(tmp_path: Path, video: bytes) -> None:
    path = tar(tmp_path / "set.tar", {
        "good.mp4": video, "good.txt": b"It is good.",
        "../bad.mp4": video, "../bad.txt": b"It leaves.",
        "none.txt": b"Nothing here.", "none.json": b"{}",
        "two.a.mp4": video, "two.b.mp4": video, "two.txt": b"Which one.",
        "broken.mp4": video, "broken.json": b"{", "broken.txt": b"It broke.",
        "mute.mp4": video, "mute.txt": b"  ",
    })  # fmt: skip
    result = build_manifest([path])
    assert [c.video_id for c in clips_of(result)] == ["good"]
    assert result.rejects_by_reason == {"bad_row": 2, "no_media": 2, "caption_empty": 1}
    told = "\n".join(result.rejects.details)
    assert "a name that leads out of the tar" in told
    assert "members txt, json: expected a video, sound, or several pictures" in told
    assert "several videos (a.mp4, b.mp4): name one with --member" in told
    assert "its JSON cannot be read" in told


def test_a_member_that_somebody_names(tmp_path: Path, video: bytes) -> None:
    path = tar(tmp_path / "set.tar", {"x.a.mp4": b"not this", "x.b.mp4": video, "x.txt": b"It is b."})
    clips = clips_of(build_manifest([path], options=ManifestOptions(member="b.mp4")))
    (item,) = bring(path, clips, tmp_path / "one", member="b.mp4")
    assert isinstance(item, Obtained)
    assert item.path.read_bytes() == video
    (item,) = bring(path, clips, tmp_path / "two")
    assert words(item).startswith("missing: several videos (a.mp4, b.mp4)")


def test_samples_without_captions(tmp_path: Path, video: bytes) -> None:
    path = tar(tmp_path / "set.tar", {"x.mp4": video, "y.mp4": video})
    assert [(c.video_id, c.captions) for c in clips_of(build_manifest([path]))] == [("x", ()), ("y", ())]


def test_valors_own_tar_with_its_lists(tmp_path: Path, video: bytes) -> None:
    """Videos in a tar under long names, captions in desc_train.json: members are found by their names."""
    inside = "raid/datasets/audioset/valor_videos"
    names = ["-0BIyqJj9ZU_30.000_32.000", "Dk3wLpond01_4.500_6.500"]
    tar(tmp_path / "videos" / "valor_videos.tar", {f"{inside}/{name}.mp4": video for name in names})
    rows = [{"video_id": name, "desc": f"A caption of {name}."} for name in [*names, "V4nWh1te_02_0.000_2.000"]]
    (tmp_path / "desc_train.json").write_text(json.dumps(rows))
    clips = clips_of(build_manifest([tmp_path / "desc_train.json"]))
    first, second, third = bring(tmp_path / "videos", clips, tmp_path / "into")
    assert isinstance(first, Obtained) and isinstance(second, Obtained)
    assert (first.path.read_bytes(), first.offset_seconds) == (video, 30.0)
    assert first.origin == {"extractor": "tar", "name": f"valor_videos.tar/{inside}/{names[0]}"}
    assert words(third).startswith("missing: nothing for V4nWh1te_02_00000000_00002000 in")
    alone = clips_of(build_manifest([tmp_path / "videos"]))
    assert [c.key for c in alone] == [c.key for c in clips[:2]]


def test_a_tar_that_changed_since(tmp_path: Path, video: bytes) -> None:
    path = tar(tmp_path / "set.tar", {"a.mp4": b"1" * 600, "a.txt": b"It is a.", "b.mp4": video, "b.txt": b"It is b."})
    clips = clips_of(build_manifest([path]))
    tar(path, {"c.mp4": b"1" * 600, "c.txt": b"It is c.", "b.mp4": video, "b.txt": b"It is b."})
    first, second = bring(path, clips, tmp_path / "into")
    assert words(first).startswith("missing: set.tar: at byte 0 there is 'c', not 'a': it is not the file that")
    assert isinstance(second, Obtained)
    path.write_bytes(path.read_bytes()[:1800])
    assert words(bring(path, clips, tmp_path / "again")[1]).startswith("missing: set.tar: ")
    path.unlink()
    with pytest.raises(ConfigError, match="no such folder"):
        bring(path, clips, tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("set.tar", b"not a tar at all" * 64, "set.tar: no tar, or damaged at byte 0; get it again"),
        ("set.tar.gz", b"\x1f\x8b", "set.tar.gz: is compressed, and members are read where they lie"),
        ("set.tar", b"", "set.tar: the file is empty"),
    ],
)
def test_tars_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ManifestError, match=problem):
        build_manifest([tmp_path / name])


def test_a_cut_off_tar_is_said_so(tmp_path: Path, video: bytes) -> None:
    path = tar(
        tmp_path / "set.tar", {f"{n}.{e}": d for n in range(60) for e, d in (("mp4", video), ("txt", b"A clip."))}
    )
    path.write_bytes(path.read_bytes()[: -12 * 1024])
    with pytest.raises(ManifestError, match=r"set\.tar: is cut off: a member at byte \d+ ends at \d+, the file at"):
        build_manifest([path])


def parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=2)
    return path


def test_a_hub_parquet(tmp_path: Path, video: bytes) -> None:
    """As `datasets` writes Video and Audio features, several files, two rows a group."""
    import datasets

    features = datasets.Features({"video": datasets.Video(), "description": datasets.Value("string")})
    files = [{"bytes": video + bytes(n), "path": f"{name}.mp4"} for n, name in
             enumerate(["Dk3wLpond01_30.000_32.000", "-BlueSky_03_0.000_2.000", "Plain"])]  # fmt: skip
    rows = datasets.Dataset.from_dict({"video": files, "description": ["One is.", "Two is.", "Three is."]}, features)
    (tmp_path / "data").mkdir()
    rows.to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", batch_size=2)
    clips = clips_of(build_manifest([tmp_path / "data"]))
    assert [(c.video_id, c.start, c.end, c.split, c.captions[0].text) for c in clips] == [
        ("Dk3wLpond01", 30.0, 32.0, "test", "One is."),
        ("-BlueSky_03", 0.0, 2.0, "test", "Two is."),
        ("Plain", 0.0, None, "test", "Three is."),
    ]
    found = bring(tmp_path / "data", clips, tmp_path / "into")
    assert [i.path.read_bytes() for i in found if isinstance(i, Obtained)] == [f["bytes"] for f in files]


def test_a_parquet_with_sound_beside_a_silent_video(tmp_path: Path, video: bytes) -> None:
    """The two become one file, and nothing is coded anew."""
    source = tmp_path / "v.mp4"
    source.write_bytes(video)
    import av

    silent = tmp_path / "silent.mp4"
    with av.open(str(source)) as given, av.open(str(silent), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    flac = audio_flac(source, 0.0, 0.0, SECONDS)
    path = parquet(tmp_path / "set.parquet", [
        {"video_id": "x", "video": {"bytes": silent.read_bytes(), "path": None}, "caption": "It is x.",
         "audio": {"bytes": flac, "path": "x.flac"}},
        {"video_id": "y", "video": {"bytes": None, "path": None}, "caption": "It is y.",
         "audio": {"bytes": None, "path": None}},
    ])  # fmt: skip
    clips = clips_of(build_manifest([path]))
    joined, missing = bring(path, clips, tmp_path / "into")
    assert isinstance(joined, Obtained)
    told = probe(joined.path)
    assert told.audio is not None and told.audio.codec == "flac"
    assert told.video is not None
    (tmp_path / "x.flac").write_bytes(flac)
    assert audio_wav(joined.path, 0.0, 0.0, 1.5) == audio_wav(tmp_path / "x.flac", 0.0, 0.0, 1.5)
    assert words(missing) == "missing: set.parquet, row 2: its media are null"


def test_a_parquet_of_plain_bytes(tmp_path: Path, video: bytes) -> None:
    path = parquet(
        tmp_path / "set.parquet", [{"mp4": video, "text": "Nameless one."}, {"mp4": b"x", "text": "Another one."}]
    )
    clips = clips_of(build_manifest([path]))
    assert [c.video_id for c in clips] == ["set_0", "set_1"]
    first, second = bring(path, clips, tmp_path / "into")
    assert isinstance(first, Obtained) and isinstance(second, Obtained)
    assert (first.path.read_bytes(), second.path.read_bytes()) == (video, b"x")


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        ([{"video": b"1", "clip": b"2", "text": "A text."}], {},
         r"several columns of video \(video, clip\): name one with --member"),
        ([{"video": b"1", "text": "A text."}], {"member": "text"},
         r"column 'text': its type is string; expected bytes, or a pair of bytes and path"),
        ([{"video": b"1", "text": "A text."}], {"member": "film"}, "column 'film': there is none; expected bytes"),
        ([{"video": b"1", "text": "A text."}], {"caption_field": "words"},
         r"the samples have no 'words' \(--caption-field\); fields found: 'text'"),
    ],
)  # fmt: skip
def test_parquet_that_cannot_be_read(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], problem: str
) -> None:
    path = parquet(tmp_path / "set.parquet", rows)
    with pytest.raises(ManifestError, match=problem):
        build_manifest([path], options=ManifestOptions(**options))


def test_a_parquet_without_media_is_a_list_as_before(tmp_path: Path) -> None:
    path = parquet(tmp_path / "list.parquet", [{"video_id": "Dk3wLpond01", "start": 1, "end": 2, "caption": "It is."}])
    result = build_manifest([path])
    assert result.manifest.sources[0].format == "parquet"
    assert clips_of(result)[0].url is None


def test_a_damaged_parquet(tmp_path: Path, video: bytes) -> None:
    good = parquet(tmp_path / "a" / "x.parquet", [{"video": video, "text": "A text."}])
    (clip,) = clips_of(build_manifest([good]))
    request = ClipRequest(0, "x_00000000_open", 0.0, None, clip.url)
    location = open_source(str(good)).find(clip.video_id, clip.url, [request])
    good.write_bytes(good.read_bytes()[:-200])
    assert words(location.obtain([request], tmp_path, FetchSection())[0]).startswith(
        "missing: x.parquet: no Parquet file"
    )
    with pytest.raises(ManifestError, match="damaged or cut off"):
        build_manifest([good])


def test_what_is_a_set_and_what_a_folder_of_files(tmp_path: Path, video: bytes) -> None:
    make_video(tmp_path / "files" / "x.mp4")
    tar(tmp_path / "files" / "old.tar", {"y.mp4": video})
    assert find_holding(str(tmp_path / "files")) is None
    assert isinstance(open_source(str(tmp_path / "files")), FolderSource)
    tar(tmp_path / "work" / "shards" / "train-000000.tar", {"y.mp4": video})
    parquet(tmp_path / "work" / "index" / "train-000000.parquet", [{"video": video}])
    held = find_holding(str(tmp_path / "work"))
    assert held is not None and (held.kind, held.files) == ("tars", ("shards/train-000000.tar",))
    assert find_holding(str(tmp_path / "nothing")) is None
    assert find_holding(str(tmp_path / "work" / "index")).kind == "parquet"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_set_at_an_address(tmp_path: Path, video: bytes, kind: str) -> None:
    if kind == "tar":
        tar(tmp_path / "set" / "train-0.tar", {"x.mp4": video, "x.txt": b"It is x."})
    else:
        parquet(tmp_path / "set" / "train-0.parquet", [{"video_id": "x", "video": video, "caption": "It is x."}])
    place = f"local://{tmp_path}/set"
    clips = clips_of(build_manifest([place]))
    assert [(c.video_id, c.captions[0].text) for c in clips] == [("x", "It is x.")]
    (item,) = bring(place, clips, tmp_path / "into")
    assert isinstance(item, Obtained)
    assert item.path.read_bytes() == video


def valor_folder(root: Path, source: Path, names: list[str], pictures: list[bytes]) -> Path:
    for name in names:
        frames = root / "frames_fps4" / name
        frames.mkdir(parents=True)
        for number, data in enumerate(pictures, 1):
            (frames / f"img_{number:04d}.jpg").write_bytes(data)
        (root / "audio_22050hz").mkdir(exist_ok=True)
        (root / "audio_22050hz" / f"{name}.wav").write_bytes(audio_wav(source, 0.0, 0.0, SECONDS))
    (root / "train_id.json").write_text(json.dumps(names[:1]))
    (root / "test_id.json").write_text(json.dumps(names[1:]))
    (root / "txt_mapper.json").write_text(json.dumps({name: [f"It is {name}.", "Again it is."] for name in names}))
    return root


def jpegs(number: int) -> list[bytes]:
    import numpy as np
    import simplejpeg

    return [simplejpeg.encode_jpeg(np.full((48, 64, 3), 40 * n, np.uint8), 90) for n in range(number)]


def test_the_published_trainers_folders(tmp_path: Path, video: bytes) -> None:
    """Pictures and wavs become one file, the pictures' own bytes in it, the samples too."""
    source = tmp_path / "v.mp4"
    source.write_bytes(video)
    names = ["Dk3wLpond01_30.000_32.000", "msrvtt-video7"]
    root = valor_folder(tmp_path / "set", source, names, jpegs(4))
    clips = clips_of(build_manifest([root]))
    assert [(c.video_id, c.start, c.end, c.split) for c in clips] == [
        ("Dk3wLpond01", 30.0, 32.0, "train"), ("msrvtt-video7", 0.0, None, "test"),
    ]  # fmt: skip
    assert [len(c.captions) for c in clips] == [2, 2]
    for item in bring(root, clips, tmp_path / "into"):
        assert isinstance(item, Obtained)
        told = probe(item.path)
        assert told.video is not None and told.video.codec == "mjpeg"
        assert told.duration_seconds == pytest.approx(SECONDS, abs=0.01)
        assert audio_wav(item.path, 0.0, 0.0, SECONDS) == audio_wav(source, 0.0, 0.0, SECONDS)
        import av

        with av.open(str(item.path)) as container:
            assert [bytes(p) for p in container.demux(video=0) if p.size] == jpegs(4)


def test_pictures_without_sound_and_sound_without_pictures(tmp_path: Path, video: bytes) -> None:
    source = tmp_path / "v.mp4"
    source.write_bytes(video)
    names = ["Dk3wLpond01_30.000_32.000", "-BlueSky_03_0.000_2.000", "nothing_0.000_2.000", "endless"]
    root = valor_folder(tmp_path / "set", source, names, jpegs(3))
    import shutil

    (root / "audio_22050hz" / f"{names[0]}.wav").unlink()
    shutil.rmtree(root / "frames_fps4" / names[1])
    shutil.rmtree(root / "frames_fps4" / names[2])
    (root / "audio_22050hz" / f"{names[2]}.wav").unlink()
    (root / "audio_22050hz" / f"{names[3]}.wav").unlink()
    pictures, sound, nothing, endless = bring(root, clips_of(build_manifest([root])), tmp_path / "into")
    assert isinstance(pictures, Obtained) and isinstance(sound, Obtained)
    assert probe(pictures.path).audio is None
    assert probe(pictures.path).duration_seconds == pytest.approx(2.0, abs=0.01)
    assert probe(sound.path).video is None
    assert words(nothing).startswith("missing: nothing for nothing_00000000_00002000")
    assert words(endless) == "undecodable: 3 pictures, and nothing says how long they last: no span, no sound"


def test_folders_that_cannot_be_told_apart(tmp_path: Path, video: bytes) -> None:
    source = tmp_path / "v.mp4"
    source.write_bytes(video)
    root = valor_folder(tmp_path / "set", source, ["Dk3wLpond01_30.000_32.000"], jpegs(2))
    (root / "frames_fps1").mkdir()
    with pytest.raises(ManifestError, match=r"several folders could be it \(frames_fps1, frames_fps4\); leave"):
        build_manifest([root])
    with pytest.raises(ConfigError, match="several folders could be it"):
        open_source(str(root))


def test_pictures_of_two_sizes(tmp_path: Path, video: bytes) -> None:
    import numpy as np
    import simplejpeg

    source = tmp_path / "v.mp4"
    source.write_bytes(video)
    odd = [*jpegs(1), simplejpeg.encode_jpeg(np.zeros((20, 20, 3), np.uint8), 90)]
    root = valor_folder(tmp_path / "set", source, ["Dk3wLpond01_30.000_32.000"], odd)
    (item,) = bring(root, clips_of(build_manifest([root])), tmp_path / "into")
    assert words(item) == "undecodable: pictures of different sizes: [(20, 20), (64, 48)]"
    (root / "frames_fps4" / "Dk3wLpond01_30.000_32.000" / "img_0001.jpg").write_bytes(b"<html>")
    (item,) = bring(root, clips_of(build_manifest([root])), tmp_path / "again")
    assert words(item).startswith("undecodable: picture 1 of 2 is no JPEG")


def test_a_sample_that_is_too_large(tmp_path: Path, video: bytes) -> None:
    path = tar(tmp_path / "set.tar", {"x.mp4": video, "x.txt": b"It is x."})
    (clip,) = clips_of(build_manifest([path]))
    request = ClipRequest(0, "x_00000000_open", 0.0, None, clip.url)
    location = open_source(str(path)).find("x", clip.url, [request])
    found = location.obtain([request], tmp_path, FetchSection(max_video_bytes=1000))[0]
    size_bytes = path.stat().st_size // 10240 * 10240
    assert words(found).startswith("too_large: ")
    assert words(found).endswith(" bytes; fetch.max_video_bytes is 1000")
    assert len(video) <= int(words(found).split()[1]) <= size_bytes


def test_strangers_files_are_opened_as_such(tmp_path: Path) -> None:
    """A script under the name of a video is no media, wherever it lay."""
    script = b"ffconcat version 1.0\nfile /etc/passwd\n"
    path = tar(tmp_path / "set.tar", {"x.mp4": script, "x.txt": b"It is x."})
    write_manifest(build_manifest([path]), tmp_path / "m.parquet")
    work = WorkDir.at(tmp_path / "work")
    with Driver(work) as driver:
        run_fetch(
            driver, FetchSection(source=str(path), workers=1), manifest=tmp_path / "m.parquet", explicit={"source"}
        )
    with Ledger(work.ledger, read_only=True) as ledger:
        ((status, reason),) = {(k[2], k[3]) for k in ledger.counts() if k[1] == "fetch"}
    assert (status, reason) == ("dropped", "not_media")


def test_the_whole_road_from_a_set_and_again(tmp_path: Path, video: bytes) -> None:
    """Fetched in two goes, from tars that may go afterwards; nothing is asked for twice."""
    members = {}
    for number in range(4):
        members |= {f"v{number}.mp4": video, f"v{number}.txt": f"Number {number} of four.".encode()}
    path = tar(tmp_path / "set" / "train-0.tar", members)
    write_manifest(build_manifest([path.parent]), tmp_path / "m.parquet")
    work = WorkDir.at(tmp_path / "work")
    section = FetchSection(source=str(path.parent), workers=1)
    with Driver(work) as driver:
        one = run_fetch(
            driver, section, manifest=tmp_path / "m.parquet", explicit={"source"}, selection=Selection(limit=2)
        )
        two = run_fetch(driver, section)
        assert (one.done, two.done) == (2, 2)
        path.unlink()
        assert run_shard(driver, driver_section(), "av").done == 1
    assert len(list(work.media.rglob("*.mp4"))) == 4
    with Ledger(work.ledger, read_only=True) as ledger:
        media = ledger.media_of(1)
    assert media is not None
    assert json.loads(media.source)["name"] == "train-0.tar/v0"


def driver_section() -> Any:
    from valor_data.config import ShardSection

    return ShardSection(workers=1, num_frames=2)


def test_a_manifest_with_another_source(tmp_path: Path, video: bytes) -> None:
    """Where the manifest's places do not fit the set at hand, names decide."""
    one = tar(tmp_path / "one" / "a.tar", {"pad.txt": b"x" * 5000, "x.mp4": video, "x.txt": b"It is x."})
    other = tar(tmp_path / "other" / "b.tar", {"x.mp4": video, "x.txt": b"It is x."})
    clips = clips_of(build_manifest([one]))
    (item,) = bring(other, clips, tmp_path / "into")
    assert isinstance(item, Obtained)
    make_video(tmp_path / "files" / "x.mp4")
    (item,) = bring(tmp_path / "files", clips, tmp_path / "again")
    assert isinstance(item, Obtained)

"""The report in a real Chromium: it opens from disk, asks for nothing, shows and plays, and is for everybody."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from accessibility import contrasts, structure_faults, tab_stops
from browser import Visitor
from driving import go

from valor_data.cli import main
from valor_data.errors import ValorDataError
from valor_data.ledger import STAGES, Ledger
from valor_data.look import report
from valor_data.look.gallery import choose, gallery
from valor_data.look.previews import PreviewUnit, run_previews, without_paths
from valor_data.look.report import write_report
from valor_data.manifest import Manifest, build_manifest, read_manifest, write_manifest
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings
from valor_data.tombstones import add_tombstones
from valor_data.workdir import WorkDir

HOSTILE = (
    "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title = 'taken over'\">",
    "שלום עולם, كلب ينبح a dog barks 😀🎸 \u202eabc",
    "</blockquote></li></ul><style>* { display: none }</style>\"'&amp; <b>A loud bell</b> rings.",
)


@pytest.fixture(scope="module")
def set_here(finished: WorkDir, tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    """A finished run with hostile captions and rejected rows."""
    root = tmp_path_factory.mktemp("report") / "my-set"
    shutil.copytree(finished.root, root)
    work = WorkDir.at(root)
    manifest = read_manifest(work.manifest)
    rows = manifest.table.to_pylist()
    for number, row in enumerate(rows):
        row["captions"] = [{"text": HOSTILE[number % 3], "role": "audiovisual"}]
    Manifest.of(pa.Table.from_pylist(rows, schema=manifest.table.schema)).save(work.manifest)
    return work


@pytest.fixture(scope="module")
def page(set_here: WorkDir) -> Path:
    return write_report(set_here, num_kept=5, num_refused=8).path


def outcomes(work: WorkDir) -> set[tuple[str, str]]:
    """(status, reason) of everything in the ledger that is not kept."""
    with Ledger(work.ledger, read_only=True) as ledger:
        return {pair for stage in STAGES for pair in ledger.ids_by_outcome(stage) if pair[0] != "kept"}


def test_it_opens_from_disk_and_asks_for_nothing(page: Path, set_here: WorkDir, visitor: Visitor) -> None:
    tab = visitor.open(page)
    assert tab.locator("h1").inner_text().endswith("are ready to train on")
    assert {url.split(":")[0] for url in visitor.requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in visitor.requests) == 1
    assert tab.evaluate("document.scripts.length") == 0
    assert page == set_here.report / "index.html"
    assert list(page.parent.iterdir()) == [page], "nothing is left beside it"


def test_every_picture_is_seen(page: Path, visitor: Visitor) -> None:
    tab = visitor.open(page)
    widths = tab.evaluate("""async () => {
      for (const image of document.images) { image.loading = 'eager'; await image.decode(); }
      return [...document.images].map((image) => [image.className, image.naturalWidth, image.naturalHeight]);
    }""")
    assert len(widths) > 20
    assert all(width > 0 for _, width, _ in widths)
    assert sum(name == "mel" and height == 64 for name, _, height in widths) >= 5
    for svg in tab.locator("svg.plot").all():
        box = svg.bounding_box()
        assert box is not None and box["width"] > 250 and box["height"] > 100


def test_every_sound_plays(page: Path, visitor: Visitor) -> None:
    tab = visitor.open(page)
    played = tab.evaluate("""async () => {
      const times = [];
      for (const sound of document.querySelectorAll('audio')) {
        await sound.play();
        const began = performance.now();
        while (sound.currentTime === 0 && performance.now() - began < 5000)
          await new Promise((go) => setTimeout(go, 20));
        sound.pause();
        times.push([sound.currentTime, sound.duration]);
      }
      return times;
    }""")
    assert len(played) >= 5
    assert all(0 < time < length < 30 for time, length in played)


def test_captions_are_text(page: Path, visitor: Visitor) -> None:
    tab = visitor.open(page)
    shown = set(tab.locator("blockquote").all_text_contents())
    assert shown <= set(HOSTILE) and len(shown) == 3
    assert tab.title() != "taken over"
    assert tab.locator("blockquote *").count() == 0
    assert tab.locator("blockquote").first.is_visible()
    text = next(one for one in tab.locator("blockquote").all() if "שלום" in (one.text_content() or ""))
    assert text.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_the_policy_allows_nothing_else(page: Path, visitor: Visitor, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    planted = (
        "<script>document.title = 'taken over'</script><p id=p style='color: red'>x</p><img src='file:///x.png' alt=x>"
    )
    (tmp_path / "planted.html").write_text(text.replace("<main", f"{planted}<main", 1), "utf-8")
    tab = visitor.open(tmp_path / "planted.html")
    assert tab.title() != "taken over"
    assert tab.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    assert len([one for one in visitor.complaints if "Content Security Policy" in one]) == 3
    visitor.complaints.clear()


def test_structure_is_for_everybody(page: Path, visitor: Visitor) -> None:
    assert structure_faults(visitor.open(page)) == []


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_can_be_read(page: Path, visitor: Visitor, dark: bool) -> None:
    found = contrasts(visitor.open(page, dark=dark))
    assert len(found) > 25
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("dark", [False, True])
def test_drawings_stand_out_from_the_page(page: Path, visitor: Visitor, dark: bool) -> None:
    """Three to one, as WCAG asks of what must be seen to understand a drawing."""
    tab = visitor.open(page, dark=dark)

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])

    below = luminance(tab.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    for name in ("fill-kept", "fill-refused"):
        colour = luminance(tab.evaluate(f"getComputedStyle(document.querySelector('rect.{name}')).fill"))
        assert (max(colour, below) + 0.05) / (min(colour, below) + 0.05) >= 3


def test_a_keyboard_reaches_everything_in_order(page: Path, visitor: Visitor) -> None:
    wanted, reached = tab_stops(visitor.open(page))
    assert [stop["place"] for stop in reached if stop["place"] >= 0] == wanted
    assert len(wanted) > 20
    assert all(stop["outline"] != "none" for stop in reached if stop["tag"] != "AUDIO"), "the focus is seen"


def test_the_skip_link_comes_first_and_is_seen(page: Path, visitor: Visitor) -> None:
    tab = visitor.open(page)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    box = tab.locator(".skip").bounding_box()
    assert box is not None and box["y"] >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("javascript", [True, False])
def test_the_filter_works_by_keyboard_and_without_scripts(page: Path, visitor: Visitor, javascript: bool) -> None:
    tab = visitor.open(page, javascript=javascript)
    total = tab.locator(".card").count()
    tab.locator("#show-all").focus()
    tab.keyboard.press("ArrowRight")
    kept = tab.locator(".card:visible")
    assert tab.locator("#show-kept").is_checked()
    assert 0 < kept.count() < total
    assert set(kept.locator(".badge").all_text_contents()) == {"kept"}
    tab.locator("#show-silent").focus()
    tab.keyboard.press("Space")
    silent = tab.locator(".card:visible .badge").all_text_contents()
    assert silent and set(silent) == {"refused: silent"}
    label = tab.locator("label", has=tab.locator("#show-silent")).inner_text()
    assert f"({len(silent)})" in label


@pytest.mark.parametrize("width", [400, 820, 1400])
def test_it_fits_the_window(page: Path, visitor: Visitor, width: int) -> None:
    tab = visitor.open(page, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    size = tab.evaluate("""() => { const svg = document.querySelector('svg.plot');
      return 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; }""")
    assert size >= 9, "the figures in a drawing can be read"


def test_every_reason_is_shown_with_its_meaning(page: Path, set_here: WorkDir, visitor: Visitor) -> None:
    tab = visitor.open(page)
    badges = set(tab.locator(".card .badge").all_text_contents())
    words = {"dropped": "refused", "waiting": "waiting"}
    assert badges == {f"{words[status]}: {reason}" for status, reason in outcomes(set_here)} | {"kept"}
    for card in tab.locator(".card").all():
        text = card.inner_text()
        assert ("What to do:" in text) == ("refused:" in text or "waiting:" in text)
    silent = tab.locator(".card.is-silent").first
    assert silent.locator("img").count() == 7, "a refused clip is shown as well: six pictures and the mel"
    assert silent.locator("audio").count() == 1


def test_figures_are_those_of_stats(
    page: Path, set_here: WorkDir, visitor: Visitor, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["stats", "--work", str(set_here.root), "--json"])
    told = json.loads(capsys.readouterr().out)
    tab = visitor.open(page)
    rows = [row.split() for row in tab.locator("#funnel table").first.locator("tbody tr").all_inner_texts()]
    assert [int(row[-3].replace(",", "")) for row in rows] == [step["clips"] for step in told["funnel"][0]["steps"]]
    tab.locator("#media details summary").first.click()
    counts = [int(text) for text in tab.locator("#media details table").first.locator("td").all_inner_texts()]
    assert sum(counts) == told["clips"] - sum(group["below"] for group in told["durations"]["groups"])


def test_the_same_seed_is_the_same_page(set_here: WorkDir, tmp_path: Path) -> None:
    first, again, other = (
        write_report(set_here, tmp_path / f"{n}.html", num_kept=3, num_refused=0, seed=seed).path.read_text("utf-8")
        for n, seed in enumerate((1, 1, 2))
    )
    assert first == again != other
    assert str(set_here.root) not in first and "/tmp/" not in first, "no place of this machine"


def test_what_was_removed_is_not_shown(set_here: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(set_here.root, tmp_path / "work")
    work = WorkDir.at(tmp_path / "work")
    with Ledger(work.ledger, read_only=True) as ledger:
        keys = [clip.key for clip in gallery(work, ledger, choose(ledger, 3, 0, 0))]
    add_tombstones(work.tombstones, [], [keys[0].rsplit("_", 2)[0]], reason="request", why="asked")
    text = write_report(work, num_kept=3, num_refused=0).path.read_text("utf-8")
    assert keys[0] not in text and keys[1] in text


def test_a_report_that_fails_leaves_the_older_one(
    set_here: WorkDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "page.html"
    write_report(set_here, target, num_kept=0, num_refused=0)
    before = target.read_bytes()

    def broken(*_: object) -> str:
        raise RuntimeError("planted")

    monkeypatch.setattr(report, "page", broken)
    with pytest.raises(RuntimeError, match="planted"):
        write_report(set_here, target, num_kept=0, num_refused=0)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_a_work_folder_with_a_manifest_and_nothing_else(set_here: WorkDir, tmp_path: Path, visitor: Visitor) -> None:
    with pytest.raises(ValorDataError, match=r"no manifest\.parquet here"):
        write_report(WorkDir.at(tmp_path))
    shutil.copy(set_here.manifest, tmp_path)
    tab = visitor.open(write_report(WorkDir.at(tmp_path)).path)
    assert "clips of" in tab.locator("h1").inner_text()
    assert structure_faults(tab) == []


def test_the_command(set_here: WorkDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    main(["report", "--work", str(set_here.root), "--out", str(out), "--kept", "1", "--refused", "0"])
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}, ") and said.out.rstrip().endswith("clips to see and hear")
    assert "report: " in said.err and "kept" in said.err
    main(["report", "--work", str(set_here.root), "--out", str(out), "--kept", "1", "--refused", "0", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(out) and told["bytes"] == out.stat().st_size


def test_a_preview_of_what_is_no_media_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "a page.mp4"
    wrong.write_text("<html>")

    def unit(clip_id: int, path: Path) -> PreviewUnit:
        return PreviewUnit(clip_id, path, b"", 0.0, 0.0, 1.0, FrameSettings(2), MelSettings.valor())

    made = {u.clip_id: preview for u, preview in run_previews([unit(1, wrong), unit(2, tmp_path / "nowhere.mp4")])}
    assert all(preview.faults and not preview.jpegs and not preview.sound for preview in made.values())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot be opened: 'file:/home/a/b c.mp4'", "cannot be opened: '…/b c.mp4'"),
        ("/home/someone/x.mp4 is gone", "…/x.mp4 is gone"),
        ("https://example.com/a/b gives 404", "https://example.com/a/b gives 404"),
        ("the filter.min_rms and/or peak 3/4", "the filter.min_rms and/or peak 3/4"),
    ],
)
def test_places_of_this_machine_are_taken_out(text: str, clean: str) -> None:
    assert without_paths(text) == clean


@pytest.mark.slow
def test_the_page_of_real_clips(shared: Path, tmp_path: Path, visitor: Visitor) -> None:
    """Seventy-eight real clips, hostile ones among them, from files to the page."""
    media, videos, work = shared / "media", tmp_path / "videos", WorkDir.at(tmp_path / "work")
    videos.mkdir()
    with (media / "clips.tsv").open() as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            link = videos / f"{row['video_id']}{Path(row['file']).suffix.lower()}"
            if row["file"] and not link.exists():
                link.symlink_to(media / row["file"])
    manifest = tmp_path / "manifest.parquet"
    write_manifest(build_manifest([media / "desc_local.json"]), manifest, rejects_path=work.rejects)
    go(work.root, manifest, str(videos))
    made = write_report(work)
    assert made.num_bytes < 20_000_000
    tab = visitor.open(made.path, dark=True, width=400)
    badges = set(tab.locator(".card .badge").all_text_contents())
    words = {"dropped": "refused", "waiting": "waiting"}
    assert badges == {f"{words[status]}: {reason}" for status, reason in outcomes(work)} | {"kept"}
    assert tab.locator(".rejected pre").count() == 1
    assert structure_faults(tab) == []
    assert {name: ratio for name, ratio in contrasts(tab).items() if ratio < 4.5} == {}
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    assert str(tmp_path) not in made.path.read_text("utf-8")

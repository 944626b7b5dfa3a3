"""Curation from the command line: what each filter would remove, what it removes, why, and back again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cli.commands import call

from valor_data.clip import parse_key
from valor_data.ledger import FilterRow, Ledger

OFF = ("--no-caption-junk", "--caption-min-words", 0, "--caption-languages", "", "--caption-repeats", 0,
       "--sample-share", 1, "--balance", 0)  # fmt: skip


def tars(work: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((work / "shards").glob("*.tar"))}


def files(work: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in work.rglob("*") if p.is_file()}


def kept(answer: dict[str, object]) -> int:
    return sum(o["count"] for o in answer["outcomes"] if o["status"] == "kept")  # type: ignore[attr-defined]


def test_a_dry_run_says_what_would_go_and_writes_nothing(work: Path) -> None:
    before = files(work)
    options = ("--sample-share", 0.5, "--caption-min-words", 9, "--caption-languages", "en")
    told = call("filter", "--dry-run", "--work", work, "--json", *options).json
    rules = {rule["reason"]: rule for rule in told["rules"]}
    assert list(rules)[-3:] == ["caption_length", "caption_language", "not_sampled"]
    assert rules["silent"]["alone"] >= rules["silent"]["in_order"] > 0
    left = told["measured"]
    for rule in told["rules"]:
        left -= rule["in_order"]
        assert rule["left"] == left and 0 <= rule["in_order"] <= rule["alone"]
    assert told["kept"] == left < told["kept_now"]
    words = call("filter", "--dry-run", "--work", work, *options).out
    assert f"nothing was written: {left} clips would be kept, {told['kept_now']} are now" in words
    assert "caption_min_words = 9" in words and 'caption_languages = ["en"]' in words
    assert files(work) == before
    done = call("filter", "--work", work, "--json", *options).json
    assert kept(done) == told["kept"], "what was told is what happens"


def test_filters_remove_say_why_and_give_back(work: Path) -> None:
    before, first = tars(work), call("filter", "--work", work, "--json").json
    at = ("--work", work)
    shown = call("filter", *at, "--sample-share", 0.4, "--workers", 1).out
    assert "not_sampled" in shown and "not drawn by filter.sample_share" in shown
    rebuilt = call("shard", "--workers", 1, "--partial", *at).out
    assert "shards are stale" in rebuilt and tars(work) != before
    call("verify", *at)
    status = call("status", *at).out
    assert "not_sampled" in status
    losses = call("status", *at, "--json").json["all"]["losses"]
    number = next(loss["count"] for loss in losses if loss["reason"] == "not_sampled")
    assert number == kept(first) - kept(call("filter", *at, "--json").json) > 0
    with Ledger(work / "ledger.sqlite", read_only=True) as ledger:
        gone = [row for row in ledger.filter_rows() if row.reason == "not_sampled"]
    why = call("why", gone[0].key, *at).out
    assert "its place between 0 and 1 is 0." in why and "drawn is up to 0.400000; sample_share = 0.4" in why
    call("filter", *at, "--sample-share", 0.3)
    again = call("why", gone[0].key, *at, "--json").json[0]["stages"]["filter"]
    assert again["detail"].endswith("sample_share = 0.3") and again["attempts"] == 2, "the figures are today's"
    assert kept(call("filter", *at, "--json", *OFF).json) == kept(first)
    call("shard", "--workers", 1, "--partial", *at)
    assert tars(work) == before, "turned off, the same bytes stand again"


def test_settings_stay_until_others_are_given(work: Path) -> None:
    some = kept(call("filter", "--work", work, "--json", "--sample-count", 3).json)
    assert kept(call("filter", "--work", work, "--json").json) == some
    (work / "valor.toml").write_text("[filter]\nsample_count = 0\n")
    assert kept(call("filter", "--work", work, "--json").json) > some


def test_wrong_settings_are_named_before_anything_is_done(work: Path) -> None:
    answer = call("filter", "--work", work, "--caption-languages", "xx", "--caption-repeats", 1, code=2)
    assert len(answer.errors) == 2 and "'xx' is no code of a known language" in answer.errors[1]
    assert call("filter", "--work", work, "--sample-share", 1.5, code=2).errors == [
        "--sample-share: expected 0 to 1; found 1.5"
    ]
    call("filter", "--work", work)


def test_sets_are_named_from_the_file_or_from_where_one_stands(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(work / "ledger.sqlite", read_only=True) as ledger:
        some = next(
            row.key for row in ledger.filter_rows() if row.status == "kept" and "train" in split_of(ledger, row)
        )
    video_id, start, end = parse_key(some)
    (work / "lists").mkdir()
    (work / "lists" / "test.csv").write_text(f"video_id,start,end,caption\n{video_id},{start},{end},A test clip.\n")
    (work / "valor.toml").write_text('[filter]\nleak = ["lists/test.csv"]\n')
    monkeypatch.chdir(work.parent)
    dropped = [o for o in call("filter", "--work", work, "--json").json["outcomes"] if o["reason"] == "leak"]
    assert [o["count"] for o in dropped] == [1]
    told = call("why", some, "--work", work).out
    assert "a clip of its video that overlaps it is in test.csv" in told and "a train clip that is in a set" in told
    (work / "valor.toml").unlink()
    assert call("filter", "--work", work, "--leak", "lists/test.csv", code=2).errors == [
        f"filter.leak: {work.parent}/lists/test.csv: no such file or folder; expected a manifest, an annotation file, "
        "a work folder, or splits for the other splits of this one"
    ]
    monkeypatch.chdir(work)
    again = call("filter", "--work", work, "--json", "--leak", "lists/test.csv").json
    assert sum(o["count"] for o in again["outcomes"] if o["reason"] == "leak") == 1
    off = call("filter", "--work", work, "--json", "--leak", "").json
    assert not [o for o in off["outcomes"] if o["reason"] == "leak"]


def split_of(ledger: Ledger, row: FilterRow) -> str:
    return ledger.find_clips(row.key)[0].split

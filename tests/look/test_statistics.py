"""Figures of a set: the published ones on the released files, and counts that were made another way here."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from object_store import running_store

from valor_data.errors import ConfigError, ShardError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.look import shard_details
from valor_data.look.concepts import Concepts, audioset_classes, normalise, read_concepts
from valor_data.look.histogram import Histogram, percentile_of_counts
from valor_data.look.measured import Measured
from valor_data.look.statistics import statistics_of, statistics_of_annotations, statistics_of_work
from valor_data.look.statistics_schema import schema_files, statistics_schema
from valor_data.look.words import NUM_SLICES, Vocabulary, caption_figures
from valor_data.manifest import read_manifest
from valor_data.media.facts import Facts
from valor_data.schema import shipped_file
from valor_data.workdir import WorkDir


@pytest.fixture(scope="module")
def released(shared: Path) -> dict[str, Any]:
    folder = shared / "annotations"
    names = ("valor32k/desc_train.json", "valor32k/desc_val.json", "audioset_eval_segments.csv",
             "audioset_balanced_train_segments.csv", "audioset_class_labels_indices.csv")  # fmt: skip
    return statistics_of_annotations([folder / name for name in names]).to_dict()


def test_the_figures_of_valor_32k_on_the_raw_files(released: dict[str, Any]) -> None:
    """reference/valor.md A, rejects included."""
    of_split = {row["split"]: row for row in released["captions"]}
    train, val = of_split["train"], of_split["val"]
    assert (train["captions"], val["captions"]) == (25_327, 3_500)
    assert (round(train["words"]["mean"], 2), round(val["words"]["mean"], 2)) == (19.72, 19.63)
    assert (train["words"]["over_30"], val["words"]["over_30"]) == (2_339, 313)
    assert (train["words"]["over_40"], val["words"]["over_40"]) == (590, 85)
    assert (train["only_a_number"], val["only_a_number"]) == (5, 1)
    assert (train["repeated"], val["repeated"]) == (25, 0)
    for split, longest in (("train", 156), ("val", 101)):
        words = of_split[split]["words"]
        assert [words[name] for name in ("p5", "median", "p95", "p99", "max")] == [10, 18, 35, 49, longest]


def test_clips_and_classes_of_valor_32k(released: dict[str, Any]) -> None:
    assert released["clips"] == released["videos"] == 25_322 + 3_499
    assert released["rejected"] == [
        {"reason": "caption_no_letters", "count": 6, "meaning": "the caption has no letter (only numbers, signs)"}
    ]
    assert (released["classes"]["of"], released["classes"]["seen"], released["classes"]["missing"]) == (527, 527, [])
    assert released["classes"]["clips_with_labels"] == 28_821
    here = {(row["set"], row["split"]): (row["published"], row["manifest"]) for row in released["published"]}
    assert here["VALOR-32K", "train"] == (25_327, 25_322)
    assert here["VALOR-32K", "val"] == (3_500, 3_499)
    (durations,) = released["durations"]["groups"]
    assert (sum(durations["counts"]), durations["below"], durations["above"]) == (28_821, 0, 0)
    assert sum(durations["counts"][:-1]) == 293 + 43 - 70  # shorter than ten seconds, less those of nine
    assert 0.06 < released["audio_concepts"]["density"] < 0.08  # by class names; 0.091 by the paper's longer list


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_the_schema_is_the_codes(name: str) -> None:
    text = shipped_file("schemas", name).read_text("utf-8")
    assert text == schema_files()[name], "write it anew: python -m valor_data.look.statistics_schema schemas"


def test_every_kind_of_place_fits_the_schema(work: WorkDir, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    (work.shards).rename(alone)
    tars_alone = statistics_of([str(alone)]).to_dict()
    one = statistics_of([str(sorted(alone.glob("*.tar"))[0])]).to_dict()
    alone.rename(work.shards)
    manifest, rejects = tmp_path / "m.parquet", work.rejects
    work.manifest.rename(manifest)
    shards = statistics_of([str(work.root)]).to_dict()
    of_manifest = statistics_of([str(manifest)]).to_dict()
    manifest.rename(work.manifest)
    whole = statistics_of([str(work.root)]).to_dict()
    assert rejects.exists() == bool(whole["rejected"])
    for told, kind in ((whole, "work"), (of_manifest, "manifest"), (shards, "shards"), (tars_alone, "shards"),
                       (one, "shards")):  # fmt: skip
        jsonschema.validate(told, statistics_schema())
        assert told["kind"] == kind
        assert sum(row["captions"] for row in told["captions"][1:]) == told["captions"][0]["captions"]
    assert whole["clips"] == of_manifest["clips"] == shards["clips"] == len(read_manifest(work.manifest))
    assert [step["step"] for step in whole["funnel"][0]["steps"]] == ["manifest", "fetched", "kept", "in_shards"]
    assert [step["step"] for step in shards["funnel"][0]["steps"]] == ["manifest", "in_shards"]
    in_shards = whole["funnel"][0]["steps"][-1]["clips"]
    assert shards["funnel"][0]["steps"][-1]["clips"] == tars_alone["clips"] == in_shards > one["clips"] > 0
    kept = {g["group"]: g for g in whole["measured"]["loudness"]["groups"]}["kept"]
    assert sum(kept["counts"]) + kept["below"] == in_shards == tars_alone["measured"]["clips"]
    assert shards["measured"] == tars_alone["measured"]
    assert shards["vocabulary"] == tars_alone["vocabulary"]


def test_the_funnel_of_a_work_folder_is_that_of_its_ledger(work: WorkDir) -> None:
    told = statistics_of_work(work).to_dict()
    with Ledger(work.ledger, read_only=True) as ledger:
        counts = ledger.counts()
    lost = Counter[tuple[str, str]]()
    for (_, stage, status, reason), number in counts.items():
        if status in ("dropped", "waiting"):
            lost[stage, reason] += number
    assert {(loss["stage"], loss["reason"]): loss["count"] for loss in told["funnel"][0]["losses"]} == lost
    assert all(loss["meaning"] and loss["action"] for loss in told["funnel"][0]["losses"])


def test_a_draw_from_shards_is_the_same_draw_again(work: WorkDir) -> None:
    work.manifest.unlink()
    first, again, other = (statistics_of([str(work.root)], sample=3, seed=seed).to_dict() for seed in (1, 1, 2))
    assert first == again
    assert first["captions"][0]["captions"] == 3
    assert first["notes"] == ["of 3 clips drawn with seed 1; the funnel counts all"]
    assert first["vocabulary"] != other["vocabulary"]


def test_words_are_counted_as_python_counts_them() -> None:
    texts = ["A dog's bark, a  DOG!", "", "  ", "700", "Ünder the Straße — 音楽 😀", "a dog barks"] * 3
    figures = caption_figures("all", pa.array(texts)).to_dict()
    lengths = [len(text.split()) for text in texts]
    assert figures["words"]["mean"] == round(float(np.mean(lengths)), 4)
    assert figures["words"]["max"] == max(lengths)
    assert (figures["only_a_number"], figures["without_letters"], figures["repeated"]) == (3, 9, 12)
    found = Vocabulary.of(pa.chunked_array([texts[:5], texts[5:]]), Concepts.of_names(["Dog"], "test"))
    words = [re.sub(r"[^\w\s]", "", word.lower()) for text in texts for word in text.split()]
    assert found.counts == Counter(word for word in words if word)
    assert found.num_words == sum(found.counts.values())
    assert found.growth[-1] == (len(texts), len(found.counts))
    assert len(found.growth) <= NUM_SLICES and found.growth == sorted(found.growth)


def test_concepts_are_whole_words_and_phrases() -> None:
    concepts = Concepts.of_names(["Bark", "Dog, Domestic animals", "Music", "Background music"], "test")
    assert concepts.single == {"bark", "dog", "music"}
    assert concepts.phrases == ("background music", "domestic animals")
    texts = pa.array(["Dogs bark. A dog: background music, background music", "barking domestic  animals' music"])
    told = Vocabulary.of(texts, concepts).concepts_to_dict()
    found = {entry["concept"]: entry["count"] for entry in told["top"]}
    assert found == {"music": 3, "background music": 2, "bark": 1, "dog": 1, "domestic animals": 1}
    assert (told["hits"], told["words"]) == (8, 12)
    assert told["density"] == pytest.approx(8 / 12, abs=1e-6)


def test_concepts_of_a_file(tmp_path: Path) -> None:
    ontology = tmp_path / "ontology.json"
    ontology.write_text(json.dumps([{"id": "/m/0", "name": "Male speech, man speaking"}]))
    assert read_concepts(ontology).phrases == ("male speech", "man speaking")
    (tmp_path / "list.txt").write_text("Siren\n\nCivil defense siren\n")
    assert len(read_concepts(tmp_path / "list.txt")) == 2
    (tmp_path / "empty.txt").write_text("\n")
    for wrong in ("nowhere.txt", "empty.txt"):
        with pytest.raises(ConfigError, match=r"expected ontology\.json, or one name a line"):
            read_concepts(tmp_path / wrong)
    assert len(audioset_classes()) == 527
    assert normalise("Male speech,  MAN-speaking") == "male speech manspeaking"


def test_facts_become_histograms_by_what_was_decided() -> None:
    def facts(**changed: Any) -> str:
        usual = {"has_audio": True, "has_video": True, "width_px": 640, "height_px": 360, "silence_share": 0.25}
        return Facts(**{**usual, **changed}).to_json()

    found = Measured()
    found.add([
        (facts(rms_dbfs=-20.0, video_codec="h264"), "kept"),
        (facts(rms_dbfs=-91.0, silence_share=1.0), "dropped"),
        (facts(has_audio=False), "dropped"),
        (facts(rms_dbfs=-20.0, width_px=96, height_px=3000, still=True), None),
    ])  # fmt: skip
    told = found.to_dict()
    loud = {group["group"]: group for group in told["loudness"]["groups"]}
    edges = told["loudness"]["edges"]
    assert loud["kept"]["counts"][edges.index(-20.0)] == 1
    assert (loud["refused"]["below"], sum(loud["refused"]["counts"])) == (1, 1)
    assert loud["undecided"]["counts"] == loud["kept"]["counts"]
    assert sum(sum(group["counts"]) for group in told["silence"]["groups"]) == 3  # one has no sound to be silent
    assert (told["clips"], told["still"], told["codecs"]) == (4, 1, [{"codec": "video: h264", "count": 1}])


def test_a_histogram_holds_its_edges() -> None:
    found = Histogram("seconds", (0.0, 1.0, 2.0))
    found.add("all", np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 2.5, np.nan]))
    assert found.to_dict()["groups"] == [{"group": "all", "below": 1, "counts": [2, 2], "above": 1}]
    assert found.total == 6
    assert [percentile_of_counts(np.array([1, 0, 2, 1]), share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [
        0, 0, 2, 2, 3,
    ]  # fmt: skip


def test_what_is_no_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no shards here"):
        statistics_of([str(tmp_path)])
    with pytest.raises(ValorDataError, match=r"no manifest\.parquet here"):
        statistics_of_work(WorkDir.at(tmp_path))
    with pytest.raises(ValorDataError, match="cannot be read"):
        statistics_of([str(tmp_path / "nothing.json")])


def test_a_set_of_nothing_but_labels(tmp_path: Path) -> None:
    told = statistics_of([str(shipped_file("manifests", "audioset-balanced.parquet"))]).to_dict()
    jsonschema.validate(told, statistics_schema())
    assert told["classes"]["seen"] == 527
    assert told["captions"][0]["captions"] == told["vocabulary"]["words"] == 0
    assert told["published"] == [], "no set of captions"


def test_shards_at_an_address_give_the_same_figures(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their work folder; all of them, and a draw that is fetched by ranges."""
    work.manifest.unlink()
    here = statistics_of([str(work.root)]).to_dict()
    drawn = statistics_of([str(work.root)], sample=1).to_dict()
    with running_store() as server:
        server.make_bucket("figures")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        for folder in (work.shards, work.index):
            for path in folder.iterdir():
                server.put("figures", f"my-set/{folder.name}/{path.name}", path.read_bytes())
        there = statistics_of(["s3://figures/my-set"]).to_dict()
        monkeypatch.setattr(shard_details, "RANGES_SHARE", 1.0)
        server.proxy.forget()
        drawn_there = statistics_of(["s3://figures/my-set"], sample=1).to_dict()
        assert server.proxy.count("GET", r"\.tar") == 1, "one JSON, one request"
    assert {**there, "place": ""} == {**here, "place": ""}
    assert {**drawn_there, "place": ""} == {**drawn, "place": ""}

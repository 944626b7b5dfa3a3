"""The schema of a sample's JSON: what ships is what the code says, and it refuses what readers stumble over."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from valor_data.clip import Caption, Clip, Question
from valor_data.config import ShardSection
from valor_data.media.facts import Facts
from valor_data.schema import load_schema, shipped_file
from valor_data.shard.sample import SampleRequest, SampleSettings, sample_json
from valor_data.shard.schema import sample_schema, schema_files


def tree_of(clip: Clip | None = None) -> dict[str, Any]:
    clip = clip or Clip(
        "x-2Abohj8VY", 1.0, 2.5, captions=(Caption("A bus."),), questions=(Question("0", "Q?", ("I",)),)
    )
    request = SampleRequest(1, clip, None, 0.0, json.dumps(Facts().to_dict()), '{"extractor":"url"}', "digest")
    data = sample_json(
        request,
        SampleSettings.of(ShardSection(), "av"),
        request.facts or "",
        frame_moments=(0.5, 1.0),
        frame_times=(0.48, 1.0),
        num_frames_clamped=0,
        audio_spans=((0.0, 1.5),),
    )
    tree: dict[str, Any] = json.loads(data)
    return tree


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_the_schema_that_ships_is_that_of_the_code(name: str) -> None:
    text = shipped_file("schemas", name).read_text("utf-8")
    assert text == schema_files()[name], "write it anew: python -m valor_data.shard.schema schemas"
    assert load_schema("sample") == sample_schema()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(sample_schema())


def test_a_sample_is_valid() -> None:
    validator = jsonschema.Draft202012Validator(load_schema("sample"))
    validator.validate(tree_of())
    validator.validate(tree_of(Clip("a.b", 0, 1)))


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(tree, dict):
        return [path, *(p for name, value in tree.items() for p in paths_of(value, (*path, name)))]
    if isinstance(tree, list):
        return [path, *(p for number, value in enumerate(tree) for p in paths_of(value, (*path, number)))]
    return [path]


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(tree)
    place = tree
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return tree


def test_neither_null_nor_an_empty_list_nor_a_missing_or_new_field_is_valid() -> None:
    validator = jsonschema.Draft202012Validator(load_schema("sample"))
    good = tree_of()
    paths = paths_of(good)[1:]
    assert len(paths) > 60
    for path in paths:
        assert not validator.is_valid(changed(good, path, None)), f"null at {path}"
        value = good
        for step in path:
            value = value[step]
        if isinstance(value, list):
            assert not validator.is_valid(changed(good, path, [])), f"an empty list at {path}"
        if isinstance(value, dict):
            assert not validator.is_valid(changed(good, path, {**value, "new": 1})), f"another field in {path}"
            for name in value:
                less = {key: item for key, item in value.items() if key != name}
                assert not validator.is_valid(changed(good, path, less)), f"no {name} in {path}"

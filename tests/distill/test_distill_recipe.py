"""Recipes: read, changed, refused in one line that names file and field."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from distill import recipe as recipes
from distill.corpus import CorpusMetadata
from distill.models import build, resolve
from distill.recipe import KeypointSource, Recipe, RgbSource, differences, find_recipe, input_spec, load_recipe, names
from runtime.contract import KeypointInput, RgbInput, body_and_hands_layout
from runtime.errors import BadInput

LAYOUT = body_and_hands_layout()


@pytest.mark.parametrize("name", names())
def test_every_recipe_that_comes_along_is_valid_and_builds(name: str) -> None:
    recipe = load_recipe(name)
    resolve(recipe.model)
    assert recipe.description, f"{name} says nothing about itself"
    if name.startswith("demo/"):
        build(recipe.model, 5, input_spec(recipe.input, LAYOUT))


def test_distilled_students_differ_from_the_plain_ones_by_the_distillation_only() -> None:
    for plain, distilled in (
        ("demo/stgt", "demo/stgt-trkd"),
        ("demo/stgcn", "demo/stgcn-trkd"),
        ("demo/lrinet", "demo/lrinet-crkd"),
        ("paper/stgt", "paper/stgt-trkd"),
        ("paper/stgcn", "paper/stgcn-trkd"),
        ("paper/lrinet", "paper/lrinet-crkd"),
    ):
        a, b = load_recipe(plain), load_recipe(distilled)
        assert (a.model, a.input, a.training, a.seed) == (b.model, b.input, b.training, b.seed)


def test_a_written_recipe_reads_back_as_the_same() -> None:
    recipe = tiny.skeleton(teacher="teacher", distillation=tiny.TRKD)
    import yaml

    again = Recipe.model_validate(yaml.safe_load(recipe.text()))
    assert again == recipe and again.fingerprint() == recipe.fingerprint()
    assert tiny.skeleton(seed=4).fingerprint() != tiny.skeleton().fingerprint()


def test_changes_are_applied_with_dots_and_yaml_values() -> None:
    recipe = load_recipe(
        "demo/stgt",
        ["training.epochs=3", "training.augment.jitter=0", "input.joints=[nose]", "seed=7", "training.precision=32"],
    )
    assert recipe.training.epochs == 3 and recipe.seed == 7 and recipe.input.joints == ["nose"]
    distilled = load_recipe("demo/stgt", ["teacher=../t", "distillation.kd.weight=2"])
    assert distilled.distillation.kd is not None and distilled.distillation.kd.weight == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("training.epochs=0", "training.epochs"),
        ("training.epoch=3", "training.epoch"),
        ("training.learning_rate=fast", "training.learning_rate"),
        ("training.devices=0", "training.devices"),
        ("training", "key=value"),
        ("seed.x=1", "'seed' is a value"),
        ("name=[", "not YAML"),
        ("training.augment.shift=0.1", "does not apply to keypoints"),
        ("distillation.kd.weight=1", "needs a teacher"),
        ("teacher=x", "no distillation term"),
        ("model={width: 3}", "needs a name"),
        ("input.kind=sound", "input"),
    ],
)
def test_a_wrong_change_is_named(change: str, told: str) -> None:
    with pytest.raises(BadInput, match=r".") as error:
        load_recipe("demo/stgt", [change])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_differences_name_fields_and_both_values() -> None:
    plain = tiny.skeleton()
    assert differences(plain, plain) == differences(plain, tiny.skeleton(corpus={"track": "full"})) == []
    other = tiny.skeleton(teacher="t", distillation={"kd": {"weight": 1}}, training={"schedule": "cosine"})
    assert differences(plain, other) == [
        "teacher: null -> t",
        "distillation.kd: null -> {weight: 1.0, temperature: 8.0, drop_...",
        "training.schedule: one-cycle -> cosine",
    ]
    assert differences(plain, tiny.skeleton(description="a\nb")) == ["description: '' -> 'a b'"]


def test_the_corpus_that_a_recipe_expects_is_no_part_of_what_it_trains() -> None:
    plain, expecting = tiny.skeleton(), tiny.skeleton(corpus={"track": "hard"})
    assert plain.corpus is None and expecting.fingerprint() == plain.fingerprint()
    assert "track: hard" in expecting.text()
    for wrong in ({"track": "soft"}, {"tracks": "hard"}, {}):
        with pytest.raises(ValueError, match="corpus"):
            tiny.skeleton(corpus=wrong)


@pytest.mark.parametrize(
    ("expected", "generator", "told"),
    [
        (None, {"config": {"track": "full"}}, ""),
        ("hard", {"config": {"track": "hard"}}, ""),
        ("hard", {"config": {"track": "full"}}, "of the hard track, corpus 'c' is of the full track; compose"),
        ("full", {}, "meant for a corpus of the full track, corpus 'c' names no track"),
        ("full", {"config": "unreadable"}, "corpus 'c' names no track"),
    ],
)
def test_a_recipe_says_what_is_not_as_it_expects(expected: str | None, generator: dict, told: str) -> None:
    recipe = tiny.skeleton(corpus={"track": expected} if expected else None)
    doubts = recipe.doubts(CorpusMetadata(name="c", kind="composed", glosses=["A"], generator=generator))
    assert len(doubts) == bool(told) and all(told in doubt for doubt in doubts)


def test_composed_skeleton_recipes_expect_their_track() -> None:
    expected = {name: load_recipe(name).corpus for name in names() if name.startswith("composed/")}
    tracks = {name: corpus.track if corpus else None for name, corpus in expected.items()}
    assert tracks == {
        "composed/stgt-full": "full",
        "composed/stgt-hard": "hard",
        "composed/stgt-hard-trkd": "hard",
        "composed/teacher": None,
        "composed/teacher-more": None,
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("training.epoch=3", "training.epoch: there is no such field, did you mean training.epochs?"),
        ("trainin.epochs=3", "trainin: there is no such field, did you mean training?"),
        ("training.augment.jiter=0", "did you mean training.augment.jitter?"),
        ("input.joint=all", "input.joint: there is no such field, did you mean input.joints?"),
        ("distillation.relation.adjacancy=both", "did you mean distillation.relation.adjacency?"),
        ("epochs=3", "epochs: there is no such field, did you mean training.epochs?"),
        ("weight=3", "weight: there is no such field"),
        ("training.cosine=1", "training.cosine: there is no such field"),
        ("zebra=3", "zebra: there is no such field"),
    ],
)
def test_a_mistyped_field_is_answered_with_the_one_that_was_meant(change: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        load_recipe("demo/stgt", [change])
    assert str(error.value).endswith(told) or f"{told}; " in str(error.value)
    path = tmp_path / "recipe.yaml"
    path.write_text(find_recipe("demo/stgt").read_text().replace("epochs:", "epoks:"))
    with pytest.raises(BadInput, match=r"training\.epoks: .*, did you mean training\.epochs\?"):
        load_recipe(path)


def test_a_mistyped_field_of_the_model_is_answered_too() -> None:
    with pytest.raises(BadInput, match=r"model 'stgt': joints\.layer: .*, did you mean joints\.layers\?"):
        resolve({"name": "stgt", "preset": "small", "joints": {"layer": 2}})


def test_a_teacher_cached_once_refuses_moving_augmentation() -> None:
    settings = {"teacher": "teacher", "training": {"augment": {"rescale": 0.2}}}
    with pytest.raises(ValueError, match="cached"):
        tiny.skeleton(distillation={**tiny.TRKD, "cache_teacher": True}, **settings)
    tiny.skeleton(distillation={**tiny.TRKD, "cache_teacher": True, "cache_views": 2}, **settings)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="demo/teacher"):
        find_recipe("nothing")
    path = tmp_path / "r.yaml"
    for text, told in (("a: [", "not YAML"), ("- 1", "mapping"), ("name: x", "model: Field required")):
        path.write_text(text)
        with pytest.raises(BadInput) as error:
            load_recipe(path)
        assert told in str(error.value) and str(path) in str(error.value)


def test_joint_presets_and_roots() -> None:
    assert {name: len(joints) for name, joints in recipes.PRESETS.items()} == {
        "tips": 17,
        "fingers": 27,
        "hands": 22,
        "wrists_tips": 12,
    }
    spec = input_spec(KeypointSource(kind="keypoints", joints="tips"), LAYOUT)
    assert isinstance(spec, KeypointInput)
    roots = dict(zip(spec.joints, spec.roots, strict=True))
    assert roots["left_hand_index4"] == "left_hand_root" and roots["right_wrist"] == "nose" and roots["nose"] == "nose"
    everything = input_spec(KeypointSource(kind="keypoints"), LAYOUT)
    assert isinstance(everything, KeypointInput) and everything.joints == LAYOUT
    assert input_spec(RgbSource(kind="rgb", size=32), ()) == RgbInput(32, 32)


@pytest.mark.parametrize(
    ("source", "layout", "told"),
    [
        ({}, (), "has none"),
        ({"joints": ["tail"]}, LAYOUT, "tail"),
        ({"joints": []}, LAYOUT, "one joint at least"),
        ({"scale": ["nose"]}, LAYOUT, "two joints"),
    ],
)
def test_joints_that_the_corpus_lacks(source: dict, layout: tuple[str, ...], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        input_spec(KeypointSource(kind="keypoints", **source), layout)

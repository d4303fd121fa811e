"""The reference of fields says what the schema says."""

from __future__ import annotations

from mae_dist.config.fields import field_infos

INFOS = {info.path: info for info in field_infos()}


def test_a_field_is_listed_with_its_type_default_and_documentation():
    info = INFOS["mask.ratio"]
    assert (info.type, info.default) == ("number", "0.75")
    assert info.doc == "Fraction of tokens hidden, strictly between 0 and 1."
    assert info.section_doc == "Which tokens are hidden from the encoder."


def test_types_are_written_for_people():
    assert INFOS["seed"].type == "integer >= 0"
    assert INFOS["mask.kind"].type == "random | block | grid | tube | multi_block | frame | causal"
    assert INFOS["augment.erasing"].type == "number >= 0 and <= 1"
    assert INFOS["augment.flip"].type == "true | false"
    assert INFOS["input.mean"].type == "list of number"
    assert INFOS["model.decoder_depth"].type == "integer > 0 or null"
    assert INFOS["evaluations.NAME.start_from"].type == "list of pretrained | random"
    assert INFOS["train.length"].type.startswith("duration")


def test_defaults_are_written_as_a_recipe_would():
    assert INFOS["data.mix.NAME.catalog"].default == "required"
    assert INFOS["data.test_catalog"].default == "null"
    assert INFOS["train.warmup"].default == "0 steps"
    assert INFOS["augment.flip"].default == "true"
    assert INFOS["evaluations.NAME.train.global_batch"].default == "required"


def test_documentation_is_on_one_line():
    assert all("\n" not in info.doc + info.type + info.default for info in INFOS.values())
    assert INFOS["target.kind"].doc.endswith("Variances are unbiased.")

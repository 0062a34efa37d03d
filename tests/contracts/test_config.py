"""Contract: a config.json comes in and goes out with no field lost or changed."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transformers
from transformers.models.auto import modeling_auto

from effjax.models import registry
from effjax.models.base import Head, LayerSpec
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.prune import shrink
from tests.contracts.rows import CONTRACTS, UNUSUAL

Build = Callable[[str, Head | None], Any]


def there_and_back(name: str, head: Head | None, theirs: Any) -> dict[str, Any]:
    """The fields after `config_from_hf`, `config_to_hf` and a config.json read by transformers."""
    architecture = registry.get(name)
    fields = json.loads(theirs.to_json_string(use_diff=False))
    written = config_to_hf(architecture, config_from_hf(architecture, fields, head=head))
    kind = type(transformers.AutoConfig.for_model(name))
    return kind.from_dict(json.loads(json.dumps(written))).to_dict()


def test_every_field_survives(name: str, head: Head | None) -> None:
    fields = registry.get(name).fields
    given = {**UNUSUAL, **CONTRACTS[name].unusual}
    unusual = {theirs: given[ours] for ours, theirs in fields.items()}
    labels = ("LABEL_0", "LABEL_1") if head == "question-answering" else ("yes", "no", "maybe")
    theirs = transformers.AutoConfig.for_model(
        name,
        **{**registry.get(name).requires, **unusual},
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        custom_field=[1, {"a": None}],
    )
    theirs.architectures = [registry.get(name).heads[head].hf_class]
    theirs.problem_type = "single_label_classification"
    found, want = there_and_back(name, head, theirs), theirs.to_dict()
    given = {"dtype": "float32"}  # what the tensors are written as; a fresh config has none
    differing = {k for k in {*found, *want} if found.get(k) != {**want, **given}.get(k)}
    assert not differing, {k: (found.get(k), want.get(k)) for k in differing}


def test_every_config_field_is_read(name: str) -> None:
    """Each value of ours is the unusual one given, so that none is a default by accident."""
    architecture, unusual = registry.get(name), {**UNUSUAL, **CONTRACTS[name].unusual}
    given = {theirs: unusual[ours] for ours, theirs in architecture.fields.items()}
    config = config_from_hf(architecture, {**architecture.requires, **given})
    assert {(layer.heads, layer.ffn) for layer in config.layers} == {(4, 50)}
    assert config.num_layers % 5 == 0  # ALBERT counts groups of layers
    own = {field.name for field in dataclasses.fields(architecture.config)}
    for ours in own.intersection(architecture.fields):
        assert getattr(config, ours) == unusual[ours], ours


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((LayerSpec(heads=3, ffn=50), LayerSpec(heads=2, ffn=50)), "layer 1: 2 heads, ffn 50"),
        ((LayerSpec(heads=2, ffn=50),) * 2, "2 x 12, hidden 36"),
        ((LayerSpec(heads=3, ffn=0),) * 2, "ffn 0"),
    ],
)
def test_what_hugging_face_cannot_express_is_one_line(
    pair: Build, layers: tuple[LayerSpec, ...], message: str
) -> None:
    model = pair("bert", None).model
    with pytest.raises(ValueError, match=message) as caught:
        config_to_hf(model.architecture, dataclasses.replace(model.config, layers=layers))
    assert "\n" not in str(caught.value)


def test_a_shrunk_layer_is_refused_in_one_line(pair: Build, name: str) -> None:
    model = pair(name, None).model
    for instance in model.table.instances:
        layer, _, field = instance.partition("/")
        if layer in model.config.layer_names:
            small = shrink(model, {instance: np.array([0])})
            with pytest.raises(ValueError, match=r"this model has \S+") as caught:
                config_to_hf(small.architecture, small.config)
            assert "\n" not in str(caught.value), field


def test_every_head_of_the_auto_classes_is_there(name: str) -> None:
    """But for generation, for which an encoder would have to become a decoder."""
    ours = {spec.hf_class for spec in registry.get(name).heads.values()}
    for kind, mapping in vars(modeling_auto).items():
        if kind.startswith("MODEL_") and kind.endswith("_MAPPING_NAMES") and "CAUSAL" not in kind:
            theirs = mapping.get(name, ())
            assert {theirs} <= ours if isinstance(theirs, str) else set(theirs) <= ours, kind

"""New models: sizes by name, further fields of config.json, and what there is none of."""

import jax
import pytest

from effjax.models.model import Model
from effjax.recipe.new_models import new_model
from effjax.recipe.spec import NewModel

LABELS = ("no", "yes")


def made(new: NewModel) -> Model:
    return new_model(
        new,
        "sequence-classification",
        vocab_size=90,
        pad_id=1,
        max_length=16,
        labels=LABELS,
        key=jax.random.key(0),
    )


def test_a_new_model_has_the_sizes_asked_for_and_reads_what_it_is_for() -> None:
    config = made(NewModel(hidden=12, layers=1, heads=3, ffn=20, dropout=0.3)).config
    assert (config.hidden, config.num_layers, config.vocab_size) == (12, 1, 90)
    assert (config.layers[0].heads, config.layers[0].ffn) == (3, 20)
    assert (config.dropout, config.attention_dropout) == (0.3, 0.3)
    assert (config.pad_token_id, config.max_length, config.labels) == (1, 16, LABELS)


def test_further_fields_are_those_of_config_json() -> None:
    fields = (("embedding_size", 12), ("q_groups", 1), ("k_groups", 1), ("v_groups", 1))
    new = NewModel(
        architecture="squeezebert",
        size="uncased",
        hidden=12,
        layers=1,
        heads=3,
        ffn=20,
        fields=(*fields, ("layer_norm_eps", 1e-6)),
    )
    model = made(new)
    assert model.config.norm_eps == 1e-6
    assert model.params["layer_0"]["attention"]["query"]["kernel"].size == 12 * 12


def test_positions_after_padding_leave_room_for_all_tokens() -> None:
    new = NewModel(architecture="roberta", size="base", hidden=12, layers=1, heads=3, ffn=20)
    config = made(new).config
    assert (config.positions, config.max_length) == (18, 16)


def test_a_size_that_the_architecture_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match="eurobert has no dropout to be set"):
        made(NewModel(architecture="eurobert", size="210m", dropout=0.1))

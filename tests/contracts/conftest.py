"""Every contract runs for every architecture, and where it asks for a head, for every head.

Some of that is slow (`pytest -m slow`, which CI runs too). All of BERT's is fast. Of the others,
contracts that are compiled or traced for each head are fast without one, trained with that for
classes of examples, and of those in `ONE_OF` one variant is. Of an architecture that is another's
code under other names, only what depends on names is run.
"""

from collections.abc import Callable
from typing import Any

import pytest

from effjax.models import registry
from effjax.models.base import Head
from tests.contracts.pairs import Pair, build

PAIRS = [
    pytest.param(name, head, id=f"{name}-{head or 'bare'}")
    for name in registry.ARCHITECTURES
    for head in registry.get(name).heads
]

EACH_HEAD = (
    "test_a_head_answers_for_the_tokens_that_it_is_asked_for",
    "test_a_training_step_lowers",
    "test_extra_padding_changes_nothing",
    "test_fast_runtime_is_the_plain_one",
    "test_gates_of_hidden_states_equal_narrower_arrays",
    "test_packed_outputs_are_those_of_each_example_alone",
)
"""Contracts that take long for each head."""

HEAVY = ("convbert", "mobilebert")
"""Architectures for which these contracts take long even without a head."""

ONE_OF = {
    "test_bfloat16_is_as_close_as_torch_s": ("attention", "late-division"),
    "test_gates_equal_shrunk_arrays": ("kind", "some"),
    "test_a_layer_with_a_gate_of_zero_is_not_there": ("name", "albert"),
    "test_a_layer_s_gate_leads_from_its_input_to_its_output": ("name", "modernbert"),
    "test_dropout_follows_its_key": ("name", "modernbert"),
    "test_gates_become_weights_and_smaller_arrays": ("name", "eurobert"),
    "test_costs_are_those_of_the_smaller_model": ("name", "mobilebert"),
    "test_a_gate_takes_away_what_products_read": ("name", "albert"),
    "test_what_is_left_makes_up_for_what_is_gone": ("name", "eurobert"),
    "test_a_dense_folder_is_the_smaller_model_in_transformers": ("name", "mpnet"),
    "test_a_compact_folder_is_the_smaller_model": ("name", "mpnet"),
    "test_a_compact_folder_has_narrow_hidden_states": ("name", "modernbert"),
    "test_two_factors_compute_what_the_weight_does": ("name", "modernbert"),
    "test_a_compact_folder_has_both_factors": ("name", "mobilebert"),
    "test_half_of_the_weights_of_every_kernel_are_masked": ("name", "distilbert"),
    "test_one_of_two_weights_of_every_output_is_left": ("name", "squeezebert"),
    "test_what_gives_zeros_is_not_needed": ("name", "modernbert"),
    "test_packed_and_unpacked_have_the_same_loss_and_gradient": ("name", "electra"),
    "test_products_are_of_bfloat16": ("name", "squeezebert"),
}
"""Contracts that take long, of which one variant is fast: which parameter has which value."""

SIBLINGS = ("xlm-roberta", "camembert")
"""RoBERTa under other names (`test_siblings_differ_in_names_alone`)."""

NAMES = ("test_config", "test_table", "test_whole_model", "test_a_dense_folder")
"""Contracts, or files of them, that depend on these."""


def is_another_s(test: str, name: str) -> bool:
    """Whether a contract runs the code that it has run for RoBERTa, on arrays of the same names."""
    return name in SIBLINGS and not any(part in test for part in NAMES)


def is_slow(test: str, name: str, params: dict[str, Any]) -> bool:
    """Whether a contract is left to the slow tests, given its file and name, and the architecture's
    name.
    """
    if name == "bert":
        return False
    for contract, (parameter, value) in ONE_OF.items():
        if test.endswith(contract):
            return params[parameter] != value
    if not test.endswith(EACH_HEAD):
        return False
    if name in HEAVY:
        return True
    usual = "sequence-classification" if "trained" in params else None
    head = params.get("trained", params.get("head"))
    return head != usual or params.get("layout") == "padded"


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    repeated: list[pytest.Item] = []
    for item in items:
        if item.path.parent.name != "contracts" or not isinstance(item, pytest.Function):
            continue
        params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
        test, name = f"{item.path.stem}::{item.originalname}", params.get("name")
        if name is not None and is_another_s(test, name):
            repeated.append(item)
        elif name is not None and is_slow(test, name, params):
            item.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=repeated)
    items[:] = [item for item in items if item not in repeated]


@pytest.fixture(scope="session")
def pair() -> Callable[[str, Head | None], Pair]:
    """`pair(name, head)`, shared by all contracts."""
    return build


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `name` and `head` runs for every architecture and head there is."""
    names = set(metafunc.fixturenames)
    if {"name", "head"} <= names:
        metafunc.parametrize(("name", "head"), PAIRS)
    elif "name" in names:
        metafunc.parametrize("name", list(registry.ARCHITECTURES))

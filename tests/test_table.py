"""The builders of a table's rows."""

import pytest

from effjax.table import Axis, Table, embedding, grouped, in_factors, linear, norm, vector

D, H, K = Axis("D", 12, "hidden"), Axis("H", 3, "layer_0/heads"), Axis("K", 4)


def test_a_linear_layer_is_a_kernel_and_a_bias() -> None:
    kernel, bias = linear("layer_0/query", (D,), (H, K), hf="bert.query")
    assert (kernel.path, kernel.role, kernel.shape) == (
        "layer_0/query/kernel",
        "kernel",
        (12, 3, 4),
    )
    assert (kernel.hf, kernel.hf_axes) == (("bert.query.weight",), "(H K) (D)")
    assert (kernel.letters, kernel.sizes) == ("D H K", {"D": 12, "H": 3, "K": 4})
    assert (kernel.contracts, kernel.uses, str(kernel)) == (1, ("token",), "D -> H K")
    assert (bias.path, bias.role, bias.shape) == ("layer_0/query/bias", "bias", (3, 4))
    assert (bias.hf, bias.hf_axes, bias.uses) == (("bert.query.bias",), "(H K)", ("none",))


def test_a_linear_layer_may_have_no_bias_and_run_once_per_sequence() -> None:
    (kernel,) = linear("pooler", (D,), (D,), hf="pooler", use="sequence", bias=False)
    assert kernel.uses == ("sequence",)


def test_a_linear_layer_may_be_a_convolution_of_width_one_there() -> None:
    kernel, bias = linear("query", (D,), (H, K), hf="q", hf_axes="(H K) D 1")
    assert (kernel.hf_axes, kernel.hf_shape) == ("(H K) D 1", (12, 12, 1))
    assert bias.hf_shape == (12,)


def test_groups_fix_what_they_tie_and_keep_an_earlier_reason() -> None:
    hidden = Axis("D", 12, "hidden", "the mean would change")
    rows = grouped("up", hidden, Axis("F", 18, "ffn"), 3, hf="up", hf_axes="(G O) I 1")
    table = Table(rows)
    assert [(row.shape, row.hf_shape) for row in table] == [((3, 4, 6), (18, 4, 1)), ((18,), (18,))]
    assert table.instances == {}
    assert table.fixed["hidden"] == "the mean would change"
    assert table.fixed["ffn"].startswith("its 3 groups tie")


def test_a_norm_also_answers_to_gamma_and_beta() -> None:
    scale, bias = norm("norm", D, hf="LayerNorm")
    assert scale.hf == ("LayerNorm.weight", "LayerNorm.gamma")
    assert bias.hf == ("LayerNorm.bias", "LayerNorm.beta")
    assert (scale.role, bias.role) == ("scale", "bias")


def test_a_tied_embedding_is_looked_up_and_multiplied() -> None:
    (row,) = embedding(
        "word",
        Axis("V", 31, "vocabulary"),
        D,
        hf="word",
        aliases=("decoder",),
        uses=("lookup", "token"),
    )
    assert (row.hf, row.hf_axes, row.size) == (("word", "decoder"), "V D", 372)
    assert row.uses == ("lookup", "token")


def test_a_table_counts_and_names() -> None:
    table = Table([*linear("q", (D,), (H, K), hf="q"), *norm("norm", D, hf="n")])
    assert len(table) == 4 and [row.path for row in table] == list(table.by_path)
    assert table.num_params == 12 * 12 + 12 + 24
    assert table.instances == {"hidden": 12, "layer_0/heads": 3}


def test_an_empty_axis_has_no_array() -> None:
    none = Axis("H", 0, "layer_0/heads")
    table = Table(
        [*linear("query", (D,), (none, K), hf="q"), *linear("out", (none, K), (D,), hf="o")]
    )
    assert [row.path for row in table] == ["out/bias"]


def test_paths_are_unique() -> None:
    with pytest.raises(ValueError, match=r"not unique: \['a', 'a'\]"):
        Table(vector("a", "bias", (D,), hf="x") + vector("a", "bias", (D,), hf="y"))


def test_two_factors_have_the_axes_of_the_weight_and_the_rank_between() -> None:
    rows = linear("layer_0/query", (D,), (H, K), hf="bert.query")
    left, right, bias = in_factors(rows, {"layer_0/query/kernel": 2, "layer_9/up/kernel": 2})
    assert (left.path, right.path) == ("layer_0/query/left", "layer_0/query/right")
    assert (str(left), str(right)) == ("D -> Z", "Z -> H K")
    assert (left.shape, right.shape, bias.shape) == ((12, 2), (2, 3, 4), (3, 4))
    assert (left.hf_shape, right.hf_shape) == ((2, 12), (12, 2))
    assert (left.role, right.role, left.rank, right.rank, bias.rank) == (
        "kernel",
        "kernel",
        2,
        2,
        0,
    )
    V = Axis("V", 31, "vocabulary")
    left, right = in_factors(embedding("word/embedding", V, D, hf="word"), {"word/embedding": 5})
    assert (left.role, left.contracts, left.shape, left.hf_shape) == (
        "embedding",
        0,
        (31, 5),
        (31, 5),
    )
    assert (right.role, right.contracts, right.hf_shape) == ("kernel", 1, (12, 5))


def test_what_is_no_product_cannot_be_two_factors() -> None:
    with pytest.raises(ValueError, match="norm/scale cannot be two factors: it is no kernel"):
        in_factors(norm("norm", D, hf="n"), {"norm/scale": 1})
    rows = grouped("up", D, Axis("F", 18, "ffn"), 3, hf="up", hf_axes="(G O) I 1")
    with pytest.raises(ValueError, match="cannot be two factors: its 3 groups tie"):
        in_factors(rows, {"up/kernel": 1})

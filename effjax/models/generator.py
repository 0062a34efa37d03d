"""A generator beside an encoder: ELECTRA's two networks, as one model while they are trained.

    ids -> Embedding --> Generator -> p_G --> a guess in place of each mask
               |  \\_____ E (output) ___/                 |
               \\---------------> Embedding -> Blocks -> head -> original or replaced?

Both networks share the whole embedding; the generator is a masked LM of its own width, and no
gradient passes through a guess. Once trained, the generator is thrown away.

Source: arXiv 2003.10555, section 2, with the weight sharing and the smaller generator of section
3.2.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.feedforward import ACTIVATIONS
from effjax.layers.linear import Linear, product_with_words
from effjax.layers.norm import LayerNorm
from effjax.models import registry
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Outputs, Runtime
from effjax.models.encoder import at_places, attention_mask, initializer
from effjax.models.model import Model, init_params
from effjax.models.postnorm import PostNormBlock, PostNormEncoder, layer_rows
from effjax.table import Axis, Row, Table, linear, norm, vector
from effjax.types import Array, Batch, Float, Gates, Int, Shared, Words

PART = "generator"
"""Where the generator's parameters are; all others are the encoder's."""

PARTS = ("query", "key", "value", "attention_output", "attention_norm")
PARTS += ("up", "down", "feedforward_norm")


def with_generator(
    model: Model, generator: EncoderConfig, *, mask_id: int, key: jax.Array
) -> Model:
    """The model with a new generator, whose guesses it reads in place of masks.

    Its outputs have `generator_logits` and `corrupted`; all else in them is about the corrupted
    input. Guesses are drawn where there is a stream "dropout"; where there is none, as in plain
    inference, the likeliest word is the guess.

    Args:
        generator: depth, width and layers of the generator; the model's embedding is its own.
        mask_id: the id of [MASK], which every token to be guessed is hidden behind.
        key: of the generator's weights.

    Raises:
        ValueError: the model's encoder is of another kind, or the vocabularies differ.
    """
    if model.architecture.module is not PostNormEncoder:
        raise ValueError(
            "a generator goes with a plain post-norm encoder, "
            f"which this {model.architecture.name} is not, or not any more"
        )
    if model.config.factorised:
        raise ValueError(
            "a generator goes with an encoder that has no projection between words "
            f"({model.config.embedding_size} wide) and hidden states ({model.config.hidden})"
        )
    if generator.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the generator has {generator.vocab_size} words, the model {model.config.vocab_size}; "
            "they share one embedding"
        )
    new = init_params(Table(generator_rows(generator, model.config.hidden)), generator, key)
    return model.replace(
        architecture=paired(model.architecture, generator, mask_id), params={**model.params, **new}
    )


def without_generator(model: Model) -> Model:
    """The encoder alone: an ordinary model."""
    params = {name: part for name, part in model.params.items() if name != PART}
    return model.replace(architecture=registry.get(model.architecture.name), params=params)


@functools.lru_cache(maxsize=32)
def paired(architecture: Architecture, generator: EncoderConfig, mask_id: int) -> Architecture:
    """The architecture with a generator; the same one each time, since they are compared so."""

    def rows(config: EncoderConfig, decoder: str | None) -> list[Row]:
        return [*architecture.rows(config, decoder), *generator_rows(generator, config.hidden)]

    def module(config: EncoderConfig, head: nn.Module | None, runtime: Runtime) -> nn.Module:
        return WithGenerator(config, head, runtime, generator, mask_id)

    return dataclasses.replace(architecture, rows=rows, module=module)


class Generator(nn.Module):
    """A masked LM over embeddings of some width that it is given."""

    config: EncoderConfig
    width: int
    runtime: Runtime

    def setup(self) -> None:
        config, dtype, init = self.config, self.runtime.dtype, initializer(self.config)
        if self.width != config.hidden:
            self.projection = Linear((self.width,), (config.hidden,), dtype, kernel_init=init)
        made = {
            name: PostNormBlock(config, spec, self.runtime, name=name)
            for name, spec in config.distinct_layers.items()
        }
        self.blocks = [made[name] for name in config.layer_names]
        self.dense = Linear((config.hidden,), (self.width,), dtype, kernel_init=init)
        self.norm = LayerNorm(config.norm_eps)
        self.bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))

    def __call__(
        self,
        x_BLE: Float[Array, "B L E"],
        shared: Shared,
        words_VE: Words,
        places_BP: Int[Array, "B P"] | None,
        deterministic: bool,
    ) -> Float[Array, "B P V"]:
        """The logits at these places, at all tokens for None."""
        x_BLD = self.projection(x_BLE) if self.width != self.config.hidden else x_BLE
        for block in self.blocks:
            x_BLD, _ = block(x_BLD, shared, {}, deterministic)
        asked_BPD, dtype = at_places(x_BLD, places_BP), self.runtime.dtype
        y_BPE = self.norm(ACTIVATIONS[self.config.activation](self.dense(asked_BPD)))
        return product_with_words(y_BPE, words_VE, dtype) + self.bias.astype(dtype)


class WithGenerator(PostNormEncoder):
    """An encoder whose masks a generator fills in."""

    generator_config: EncoderConfig
    mask_id: int

    def setup(self) -> None:
        super().setup()
        self.generator = Generator(self.generator_config, self.config.hidden, self.runtime)

    def __call__(
        self, batch: Batch, *, gates: Gates | None = None, deterministic: bool = True
    ) -> Outputs:
        """Runs both; arguments as of an encoder, rows of one sequence each or packed."""
        batch = dict(batch)
        ids_BL, places_BP = batch["input_ids"], batch.pop("predicted", None)
        fields = {name: value for name, value in batch.items() if value.shape == ids_BL.shape}
        fields.setdefault("position_ids", self.positions(fields))
        x_BLE, shared = self.embed(fields, deterministic), {"mask": attention_mask(fields)}
        words_VE = self.embedding.word.embedding
        logits_BPV = self.generator(x_BLE, shared, words_VE, places_BP, deterministic)
        guess = self.guess(logits_BPV).astype(ids_BL.dtype)
        if places_BP is not None:
            rows_B1 = jnp.arange(len(ids_BL))[:, None]
            guess = jnp.asarray(ids_BL).at[rows_B1, places_BP].set(guess, mode="drop")
        corrupted_BL = jnp.where(ids_BL == self.mask_id, guess, ids_BL)
        corrupted = {**batch, "input_ids": corrupted_BL}
        outputs = super().__call__(corrupted, gates=gates, deterministic=deterministic)
        return dataclasses.replace(outputs, generator_logits=logits_BPV, corrupted=corrupted_BL)

    def guess(self, logits_BPV: Float[Array, "B P V"]) -> Int[Array, "B P"]:
        """A word for each token, drawn from p_G."""
        logits_BPV = jax.lax.stop_gradient(logits_BPV).astype(jnp.float32)
        if not self.has_rng("dropout"):
            return logits_BPV.argmax(-1)
        return jax.random.categorical(self.make_rng("dropout"), logits_BPV)


def generator_rows(config: EncoderConfig, width: int) -> list[Row]:
    """The rows of a generator over embeddings of this width.

    Hugging Face has no such model; the names are only ours, in its manner.
    """
    fixed = "a generator is trained beside it, and shares its word vectors"
    D = Axis("D", config.hidden, f"{PART}/hidden", fixed)
    E = Axis("E", width, "hidden", fixed)
    V = Axis("V", config.vocab_size, "vocabulary")
    rows = linear("projection", (E,), (D,), hf=f"{PART}.projection") if width != D.size else []
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        names = {name: f"{PART}.layer.{i}.{name}" for name in PARTS}
        rows += layer_rows(layer, spec, D, config.head_size, names)
    rows += linear("dense", (D,), (E,), hf=f"{PART}.dense")
    rows += norm("norm", E, hf=f"{PART}.norm")
    rows += vector("bias", "bias", (V,), hf=f"{PART}.bias")
    return [placed(row) for row in rows]


def placed(row: Row) -> Row:
    """The row below the generator, its heads and units apart from those of the encoder."""
    axes = (
        dataclasses.replace(axis, instance=f"{PART}/{axis.instance}")
        if (axis.instance or "").startswith("layer_")
        else axis
        for axis in row.axes
    )
    return dataclasses.replace(row, path=f"{PART}/{row.path}", axes=tuple(axes))

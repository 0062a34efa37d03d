"""Heads that predict words from vectors of the words' own width, and ModernBERT's, which all begin
with the same transformation.
"""

from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import Dropout
from effjax.layers.feedforward import ACTIVATIONS
from effjax.layers.heads import Fields
from effjax.layers.linear import Linear, product
from effjax.layers.norm import LayerNorm
from effjax.types import Array, Float


class Transform(nn.Module):
    """LayerNorm(activation(W h)), with or without biases."""

    hidden: int
    activation: str
    bias: bool
    norm_eps: float
    norm_bias: bool
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        widths = (self.hidden,), (self.hidden,)
        dense = Linear(*widths, self.dtype, self.bias, self.kernel_init, name="dense")
        norm = LayerNorm(self.norm_eps, self.norm_bias, name="norm")
        return norm(ACTIVATIONS[self.activation](dense(x)))


class WordHead(nn.Module):
    """E h + c, where E is the word embedding, or a matrix of its own if untied; c may be missing.

    Attributes:
        transform: of h, before; None for none.
    """

    transform: Transform | None
    hidden: int
    vocab_size: int
    tied: bool
    bias: bool
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Array, deterministic: bool
    ) -> Fields:
        del vector_BD, deterministic
        if self.transform is not None:
            x_BLD = self.transform(x_BLD)
        if not self.tied:
            words_VD = self.param("decoder", self.kernel_init, (self.vocab_size, self.hidden))
        logits_BLV = product(x_BLD, words_VD.T, 1, self.dtype)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
            logits_BLV += bias.astype(self.dtype)
        return {"logits": logits_BLV}


class TransformedClassifier(nn.Module):
    """W dropout(transform(v)) + b for the vector v of each example."""

    transform: Transform
    hidden: int
    classes: int
    dropout: float
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Array, deterministic: bool
    ) -> Fields:
        del words_VD
        x = self.transform(self.reads(x_BLD, vector_BD))
        widths = (self.hidden,), (self.classes,)
        output = Linear(*widths, self.dtype, kernel_init=self.kernel_init, name="output")
        return {"logits": output(Dropout(self.dropout)(x, deterministic))}

    def reads(self, x_BLD: Array, vector_BD: Array) -> Array:
        """What is classified."""
        del x_BLD
        return vector_BD


class TransformedTokenClassifier(TransformedClassifier):
    """The same for every token."""

    def reads(self, x_BLD: Array, vector_BD: Array) -> Array:
        del vector_BD
        return x_BLD

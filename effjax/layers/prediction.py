"""ModernBERT's heads, which all begin with the same transformation."""

from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import Dropout
from effjax.layers.feedforward import ACTIVATIONS
from effjax.layers.heads import Fields, WordHead
from effjax.layers.linear import Linear
from effjax.layers.norm import LayerNorm
from effjax.types import Array, Float, Words


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


class TransformedWordHead(WordHead):
    """E transform(h) + c."""

    transform: Transform

    def read(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return self.transform(x_BLD)


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
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
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

"""Task heads: small modules from the encoder's last hidden states to logits.

Every head is called with the hidden states, the vector of each example (the pooled output, or
h_[CLS] without a pooler) and the word embeddings, and returns the fields of `Outputs` that it fills
in."""

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import Dropout
from effjax.layers.feedforward import ACTIVATIONS
from effjax.layers.linear import Linear, product_with_words
from effjax.layers.norm import LayerNorm
from effjax.types import Array, Float, Words

Fields = dict[str, Float[Array, "..."]]


class Pooler(nn.Module):
    """tanh(W h_[CLS] + b). Source: arXiv 1810.04805, appendix A.1, as released."""

    hidden: int
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(self, cls_BD: Float[Array, "B D"]) -> Float[Array, "B D"]:
        dense = Linear(
            (self.hidden,), (self.hidden,), self.dtype, kernel_init=self.kernel_init, name="dense"
        )
        return jnp.tanh(dense(cls_BD))


class FirstToken(nn.Module):
    """h_[CLS] as it is: the pooler of a model whose pooled output has no parameters."""

    def __call__(self, cls_BD: Float[Array, "B D"]) -> Float[Array, "B D"]:
        return cls_BD


class PooledClassifier(nn.Module):
    """W dropout(pooled) + b."""

    hidden: int
    classes: int
    dropout: float
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
    ) -> Fields:
        del x_BLD, words_VD
        output = Linear(
            (self.hidden,), (self.classes,), self.dtype, kernel_init=self.kernel_init, name="output"
        )
        return {"logits": output(Dropout(self.dropout)(vector_BD, deterministic))}


class DenseClassifier(nn.Module):
    """W_2 dropout(activation(W_1 h_[CLS] + b_1)) + b_2, for encoders without a pooler.

    `input_dropout` also drops h_[CLS], as RoBERTa does and DistilBERT does not.
    """

    hidden: int
    classes: int
    activation: str
    dropout: float
    input_dropout: float
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
    ) -> Fields:
        del x_BLD, words_VD
        dense = Linear(
            (self.hidden,), (self.hidden,), self.dtype, kernel_init=self.kernel_init, name="dense"
        )
        output = Linear(
            (self.hidden,), (self.classes,), self.dtype, kernel_init=self.kernel_init, name="output"
        )
        x_BD = Dropout(self.input_dropout)(vector_BD, deterministic)
        x_BD = ACTIVATIONS[self.activation](dense(x_BD))
        return {"logits": output(Dropout(self.dropout)(x_BD, deterministic))}


class TokenClassifier(nn.Module):
    """W dropout(h) + b for every token; question answering is this with start and end."""

    hidden: int
    classes: int
    dropout: float
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
    ) -> Fields:
        del vector_BD, words_VD
        output = Linear(
            (self.hidden,), (self.classes,), self.dtype, kernel_init=self.kernel_init, name="output"
        )
        return {"logits": output(Dropout(self.dropout)(x_BLD, deterministic))}


class WordHead(nn.Module):
    """E h + c, where E is the word embedding, `width` wide, or a matrix of its own if untied; c may
    be missing.
    """

    width: int
    vocab_size: int
    tied: bool
    bias: bool
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VE: Words, deterministic: bool
    ) -> Fields:
        del vector_BD, deterministic
        y_BLE = self.read(x_BLD)
        if not self.tied:
            words_VE = self.param("decoder", self.kernel_init, (self.vocab_size, self.width))
        logits_BLV = self.decoded(y_BLE, words_VE)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
            logits_BLV += bias.astype(self.dtype)
        return {"logits": logits_BLV}

    def read(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L E"]:
        """What the words are compared with."""
        return x_BLD

    def decoded(self, y_BLE: Float[Array, "B L E"], words_VE: Words) -> Float[Array, "B L V"]:
        """The logits without their bias."""
        return product_with_words(y_BLE, words_VE, self.dtype)


class MaskedLMHead(WordHead):
    """E LayerNorm(activation(W h + b)) + c.

    Source: arXiv 1810.04805, section 3.1, as released.
    """

    hidden: int
    activation: str
    norm_eps: float

    def read(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L E"]:
        widths = (self.hidden,), (self.transformed,)
        dense = Linear(*widths, self.dtype, kernel_init=self.kernel_init, name="dense")
        return LayerNorm(self.norm_eps, name="norm")(ACTIVATIONS[self.activation](dense(x_BLD)))

    @property
    def transformed(self) -> int:
        """The width of what the norm goes over: that of the words."""
        return self.width


class WideMaskedLMHead(MaskedLMHead):
    """[E X] LayerNorm(activation(W h + b)) + c, as wide as the hidden states: beside the narrower
    word embedding E, which reads the first of its numbers, a kernel X of its own reads the rest.

    Source: arXiv 2004.02984, as released.
    """

    @property
    def transformed(self) -> int:
        """That of the hidden states."""
        return self.hidden

    def decoded(self, y_BLD: Float[Array, "B L D"], words_VE: Words) -> Float[Array, "B L V"]:
        widths = (self.hidden - self.width,), (self.vocab_size,)
        rest = Linear(
            *widths, self.dtype, bias=False, kernel_init=self.kernel_init, name="beyond_words"
        )
        y_BLE, y_BLX = y_BLD[..., : self.width], y_BLD[..., self.width :]
        return super().decoded(y_BLE, words_VE) + rest(y_BLX)


class NextSentence(nn.Module):
    """W pooled + b: is the second sentence the next one, or a random one."""

    hidden: int
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
    ) -> Fields:
        del x_BLD, words_VD, deterministic
        output = Linear(
            (self.hidden,), (2,), self.dtype, kernel_init=self.kernel_init, name="output"
        )
        return {"logits": output(vector_BD)}


class ReplacedTokenHead(nn.Module):
    """w activation(W h + b) + c for every token: the higher, the likelier is it not the original.

    Source: arXiv 2003.10555, section 2, with the dense layer that was released.
    """

    hidden: int
    activation: str
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
    ) -> Fields:
        del vector_BD, words_VD, deterministic
        dense = Linear(
            (self.hidden,), (self.hidden,), self.dtype, kernel_init=self.kernel_init, name="dense"
        )
        output = Linear(
            (self.hidden,), (1,), self.dtype, kernel_init=self.kernel_init, name="output"
        )
        return {"logits": output(ACTIVATIONS[self.activation](dense(x_BLD)))[..., 0]}


class Pretraining(nn.Module):
    """Masked-LM logits beside those of a question about the pair of sentences: is the second the
    next one, or, for ALBERT, are they in order."""

    masked_lm: MaskedLMHead
    next_sentence: nn.Module

    def __call__(
        self, x_BLD: Array, vector_BD: Array, words_VD: Words, deterministic: bool
    ) -> Fields:
        inputs = (x_BLD, vector_BD, words_VD, deterministic)
        pair = self.next_sentence(*inputs)["logits"]
        return {**self.masked_lm(*inputs), "next_sentence_logits": pair}

"""A teacher's outputs over a whole training set, computed once and kept in memory.

Hidden states are kept in float16 and without padding; logits in float32. Every student and every
epoch then trains without running the teacher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.distill.objective import Needs
from effjax.models.base import LayerTrace, Outputs
from effjax.models.model import Model

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class CachedOutputs:
    """What the objectives need of one teacher, for every training example.

    Attributes:
        logits: float32 [n, C].
        sentence: the mean of the last hidden states, float32 [n, D]; None where it is not needed.
        hidden: float16 [T, D] by layer (0 is the embedding), for the T tokens of the `Encoded`.
        depth: the teacher's number of layers.
    """

    logits: np.ndarray
    sentence: np.ndarray | None
    hidden: Mapping[int, np.ndarray]
    depth: int

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Outputs:
        """The outputs for the examples and tokens of a batch, 0 where there is padding."""
        token = batch["token"]
        hidden = {
            layer: np.where(token[..., None] >= 0, kept[token], 0)
            for layer, kept in self.hidden.items()
        }
        return Outputs(
            embedded=hidden.get(0),
            layers=tuple(LayerTrace(hidden=hidden.get(i + 1)) for i in range(self.depth)),
            last_hidden=hidden.get(self.depth),
            logits=self.logits[batch["example"]],
            sentence=None if self.sentence is None else self.sentence[batch["example"]],
            mask=token >= 0,
        )


def cache_outputs(
    teacher: Model,
    encoded: Encoded,
    needs: Needs,
    *,
    batch_size: int = 32,
    progress: Progress = lambda i, n: None,
) -> CachedOutputs:
    """Runs the teacher over all examples and keeps what `needs` names.

    Raises:
        ValueError: a hidden state is too large for float16.
    """
    teacher = teacher.for_inference()
    tokens, width = int(encoded.offsets[-1]), teacher.config.hidden
    hidden = {layer: np.zeros((tokens, width), np.float16) for layer in needs.hidden}
    logits = np.zeros((len(encoded), len(teacher.config.labels)), np.float32)
    sentence = np.zeros((len(encoded), width), np.float32) if needs.sentence else None
    pad_id, chunk = teacher.config.pad_token_id, teacher.runtime.chunk_tokens
    batches = eval_batches(encoded, batch_size, pad_id=pad_id, tokens=chunk)
    for i, batch in enumerate(batches):
        outputs, real = teacher.trace(batch), batch["token"] >= 0
        logits[batch["example"]] = outputs.logits
        if sentence is not None:
            sentence[batch["example"]] = outputs.sentence
        for layer, kept in hidden.items():
            values = np.asarray(outputs.hidden(layer), np.float32)[real]
            if np.abs(values).max() > np.finfo(np.float16).max:
                raise ValueError(
                    f"hidden state {layer} of the teacher reaches {np.abs(values).max():.3g}; "
                    "float16 ends at 65504"
                )
            kept[batch["token"][real]] = values
        progress(i + 1, len(batches))
    return CachedOutputs(logits, sentence, hidden, teacher.config.num_layers)

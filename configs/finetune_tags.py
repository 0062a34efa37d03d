"""Tagged words of your own: all-MiniLM-L6-v2, fine-tuned with three seeds to name entities.

    effjax run configs/finetune_tags.py --task.train train.txt --task.validation dev.txt \\
        --task.types PER ORG LOC

In the layout of CoNLL-2003: a word per line with its tag last, `O`, `B-PER`, `I-PER` and so on, and
a blank line between sentences. Metric: F1 of whole entities, as seqeval has it. A bad line stops
the reading with its file and number; `--task.on-bad skip` leaves its sentence out and counts it.

Not yet run: the files are yours.
"""

from effjax.data import TaggedFiles
from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task=TaggedFiles(train="train.txt", validation="validation.txt", types=("PER", "ORG", "LOC")),
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=5, batch_size=32, learning_rate=1e-4, dtype="bfloat16"),
)

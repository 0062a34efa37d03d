"""Files of your own: all-MiniLM-L6-v2, fine-tuned with three seeds on labelled texts.

    effjax run configs/finetune_files.py --task.train reviews.csv --task.validation more.csv
    effjax run configs/finetune_files.py --task.train pairs.tsv --task.validation dev.tsv \\
        --task.text premise hypothesis --task.label verdict --task.labels no maybe yes

A .tsv, .csv, .jsonl or .parquet each; what the columns and labels are called is said here or on the
command line, as is all else (`effjax run configs/finetune_files.py --help`). `--task.labels` alone,
with no names, makes the label a score. A bad row stops the reading with its file and line;
`--task.on-bad skip` leaves such rows out and counts them.

Not yet run: the files are yours.
"""

from effjax.data import TextFiles
from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task=TextFiles(
        train="train.csv",
        validation="validation.csv",
        text=("text",),
        label="label",
        labels=("negative", "positive"),
    ),
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=5, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
)

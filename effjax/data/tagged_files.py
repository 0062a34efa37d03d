"""A user's own tagged sentences as a task: files in the layout of CoNLL-2003."""

from dataclasses import dataclass
from pathlib import Path

from effjax.data.bad_rows import BadRows
from effjax.data.conll import read_conll
from effjax.data.own_files import OwnFiles, check_names
from effjax.data.tagging import TaggedSentences
from effjax.data.tasks import Task


@dataclass(frozen=True, kw_only=True)
class TaggedFiles(OwnFiles):
    """Sentences with entities in files of one's own: a word per line, columns parted by spaces or
    tabs, the word first and its tag last, and a blank line between sentences. Tags are `O`, and
    `B-type` and `I-type` of each type, in IOB1 or IOB2.

    Args:
        types: What entities are called, in the order of their labels.
        train, validation, test, name, on_bad: As of `OwnFiles`.

    Raises:
        ValueError: If a field has a value it cannot have; the line names both.
    """

    types: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("types", self.types)
        if not self.types or len(set(self.types)) != len(self.types) or not all(self.types):
            raise ValueError(f"types is {self.types!r}; needs one or more different names")

    def task(self) -> Task:
        """The task that these files make."""
        return Task(
            **self.fields(Path(self.train).name.partition(".")[0]),
            text=("tokens",),
            labels=("O", *(f"{place}-{kind}" for kind in self.types for place in "BI")),
            metrics=("f1", "precision", "recall"),
            kind="tags",
        )

    def read(self, split: str) -> TaggedSentences:
        """All good sentences of one split, in file order.

        Raises:
            FileNotFoundError: If the split's file is not there.
            ValueError: As of `read_conll`, or if there is no such split.
        """
        return read_conll(self.path(split), self.task().labels, bad=BadRows(self.on_bad))

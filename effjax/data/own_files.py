"""A user's own files as a task: what is alike whatever the files hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effjax.choices import check_choices
from effjax.data.bad_rows import OnBad


@dataclass(frozen=True, kw_only=True)
class OwnFiles:
    """A file for each split.

    Args:
        train: File of the training split.
        validation: File of the validation split, if there is one.
        test: File of the test split, if there is one.
        name: The task's name; None is the training file's name without its endings.
        on_bad: Whether what is bad stops the reading at its first row, or is left out and counted.

    Raises:
        ValueError: If a field has a value it cannot have; the line names both.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    name: str | None = None
    on_bad: OnBad = "stop"

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def files(self) -> dict[str, str]:
        """By split."""
        files = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: file for split, file in files.items() if file is not None}

    def path(self, split: str) -> Path:
        """The file of a split.

        Raises:
            ValueError: If there is no such split.
            FileNotFoundError: If its file is not there.
        """
        if split not in self.files:
            raise ValueError(f"no file for split {split!r}; there is {', '.join(self.files)}")
        path = Path(self.files[split])
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; it is to hold the split {split!r}")
        return path

    def fields(self, stem: str) -> dict[str, Any]:
        """Of the `Task` that the files make: what it is called, and which splits it has.

        Args:
            stem: The training file's name without its endings.
        """
        name, files = self.name or stem, self.files
        dev, test = (tuple(x for x in (split,) if x in files) for split in ("validation", "test"))
        return {"name": name, "title": name, "dev": dev, "test": test}


def check_names(field: str, value: Any) -> None:
    """Raises ValueError unless a field is a tuple or a list of names; a string alone would be one
    of characters.
    """
    listed = isinstance(value, tuple | list)
    if not listed or not all(isinstance(name, str) for name in value):
        names = tuple(map(str, value)) if listed else (str(value),)
        raise ValueError(f"{field} is {value!r}; needs names as they stand in the files: {names}")

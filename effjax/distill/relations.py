"""Relations between tokens: who resembles whom in the student, as in the teacher."""

from dataclasses import dataclass, replace
from typing import Literal

from effjax.choices import check_choices
from effjax.distill.attention import divergence_within, over_queries
from effjax.distill.layer_maps import LayerMap, resolve
from effjax.distill.objective import Given, Needs, Objective, Term, known, neighbours
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array, Float


@dataclass(frozen=True, kw_only=True)
class RelationKL(Objective):
    """KL(R_t[l] || R_s[l]) per layer pair, relation head and query l, of the relations
    R = softmax(x x^T / sqrt(d)) of the queries, keys or values x, d numbers to a head. They are
    between all tokens of an example, in local layers too: vectors are compared, not attention.

    Source: arXiv 2012.15828, section 3.1 (with `heads`, any layer of the teacher, and one term each
    for queries, keys and values); 2002.10957, section 3.2 (values, of the models' own heads).

    Attributes:
        of: what is compared: queries, keys or values.
        heads: relation heads, which the vectors of all heads, laid end to end, are split into
            anew; widths and heads of student and teacher may then differ. None leaves the models'
            own, which then are as many.
        layers: a rule of `layer_maps`, or (student, teacher) pairs; layer 1 is the first.
        teacher: the teacher's name.
    """

    of: Literal["q", "k", "v"]
    heads: int | None = None
    layers: LayerMap = "last"
    teacher: str = "teacher"

    def __post_init__(self) -> None:
        check_choices(self, "RelationKL: ")

    def __call__(self, student: Outputs, given: Given) -> Term:
        own, values = neighbours(student, given.batch), []
        depths = len(student.layers), len(given.teacher.layers)
        for ours, theirs in resolve(self.layers, *depths, first=1):
            found = self.relations(student, ours, "student")
            wanted = self.relations(given.teacher, theirs, f"teacher {self.teacher!r}")
            if found.shape != wanted.shape:
                raise ValueError(
                    f"RelationKL: relations of the student are {found.shape}, those of the teacher "
                    f"{wanted.shape}; with `heads` both are split into as many"
                )
            values.append(divergence_within((found, own), (wanted, own)))
        return over_queries(values, student, given.batch)

    def relations(self, outputs: Outputs, layer: int, whose: str) -> Float[Array, "B A L M"]:
        """x x^T / sqrt(d) of one layer, in float32."""
        x_BHLK = outputs.of_layer(self.of, layer).astype("float32")
        batch, heads, length, size = x_BHLK.shape
        if self.heads is not None:
            if heads * size % self.heads:
                raise ValueError(
                    f"RelationKL: heads is {self.heads}, which does not divide the {heads * size} "
                    f"numbers of the {whose}'s {self.of}"
                )
            x_BLD = x_BHLK.swapaxes(1, 2).reshape(batch, length, heads * size)
            x_BHLK = x_BLD.reshape(batch, length, self.heads, -1).swapaxes(1, 2)
        return x_BHLK @ x_BHLK.swapaxes(2, 3) * x_BHLK.shape[-1] ** -0.5

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        pairs = resolve(self.layers, student.num_layers, known(teacher).num_layers, first=1)
        return replace(Needs(), **{self.of: tuple(sorted({theirs for _, theirs in pairs}))})

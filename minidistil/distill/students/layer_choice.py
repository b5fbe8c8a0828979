"""Which teacher layer initialises which student layer, and whether both have the same function."""

from collections.abc import Sequence

FIXED = "distilbert"  # the family whose ε is no config field


def block_sources(config, teacher, layers: Sequence[int]) -> dict[int, int]:
    """{a block of the student: the teacher's block that initialises it}, for two configs.

    Raises ValueError for a student that would compute another function with the parameters.
    """
    s, t = config.architecture, teacher.architecture
    family = config.model_type
    if len(layers) != s.L:
        raise ValueError(f"config has {s.L} layers, but {len(layers)} are named: {list(layers)}")
    if s.V != t.V:
        raise ValueError(
            f"student and teacher must share a vocabulary, not have {s.V} and {t.V} words: "
            f"its embeddings are copied row by row; without them, start from_config"
        )
    if s.causal != t.causal:
        raise other_direction(family, teacher.model_type)
    check_same_function(config, teacher)
    sources = {}
    for i, block in enumerate(s.blocks):
        source = t.blocks[layers[i]]
        if sources.setdefault(block, source) != source:
            raise ValueError(
                f"layer {i} of this {family} shares its parameters with an earlier one, so it "
                f"cannot start as another layer of the teacher: {list(layers)} for blocks "
                f"{list(s.blocks)}"
            )
    return sources


def check_same_function(config, teacher) -> None:
    """Raises ValueError where a block of the student computes another function."""
    s, t = config.architecture, teacher.architecture
    for what, value, wanted in (
        ("layer_norm_eps", s.eps, t.eps), ("activation", s.activation, t.activation),
    ):  # fmt: skip
        if value != wanted:
            fixed = what == "layer_norm_eps" and config.model_type == FIXED
            raise ValueError(
                f"{'DistilBERT' if fixed else 'the student'}'s {what} is {value}, the teacher's is "
                f"{wanted}: give {'another family' if fixed else 'the config the same'}, or start "
                f"from_config"
            )


def other_direction(family: str, teacher_family: str) -> ValueError:
    """The error for a decoder and an encoder."""
    s, t = ("an albert" if x == "albert" else f"a {x}" for x in (family, teacher_family))
    return ValueError(f"{s} cannot start as {t}: one reads from left to right, the other both ways")


def in_teacher(name: str, sources: dict[int, int]) -> str:
    """The teacher's canonical name for a student's; sources: see `block_sources`."""
    if not name.startswith("layer."):
        return name
    _, block, rest = name.split(".", 2)
    return f"layer.{sources[int(block)]}.{rest}"

"""Which of its teacher's layers a student's starts as, and whether it computes the same with it."""

FIXED = "distilbert"  # the family whose ε no config can change


def block_sources(config, teacher, layers):
    """{a block of the student: the teacher's block that it starts as}, for two configs.

    Raises ValueError for a student to which the teacher's parameters would mean something else.
    """
    s, t = config.architecture, teacher.architecture
    mine, theirs = config.model_type, teacher.model_type
    if len(layers) != s.L:
        raise ValueError(f"config has {s.L} layers, but {len(layers)} are named: {list(layers)}")
    if s.V != t.V:
        raise ValueError(
            f"student and teacher must share a vocabulary, not have {s.V} and {t.V} words: word "
            f"by word its embeddings are copied; without them, start from_config"
        )
    if s.causal != t.causal:
        raise other_direction(mine, theirs)
    check_same_function(config, teacher)
    sources = {}
    for turn, block in enumerate(s.blocks):
        source = t.blocks[layers[turn]]
        if sources.setdefault(block, source) != source:
            raise ValueError(
                f"layer {turn} of this {mine} shares its parameters with an earlier one, so it "
                f"cannot start as another layer of the teacher: {list(layers)} for blocks "
                f"{list(s.blocks)}"
            )
    return sources


def check_same_function(config, teacher):
    """Raises ValueError where a block of the student computes something else."""
    s, t = config.architecture, teacher.architecture
    for what, mine, theirs in (
        ("layer_norm_eps", s.eps, t.eps), ("activation", s.activation, t.activation),
    ):  # fmt: skip
        if mine != theirs:
            fixed = what == "layer_norm_eps" and config.model_type == FIXED
            raise ValueError(
                f"{'DistilBERT' if fixed else 'the student'}'s {what} is {mine}, the teacher's is "
                f"{theirs}: give {'another family' if fixed else 'the config the same'}, or start "
                f"from_config"
            )


def other_direction(mine, theirs):
    """The ValueError for a decoder and an encoder."""
    mine, theirs = ("an albert" if x == "albert" else f"a {x}" for x in (mine, theirs))
    return ValueError(
        f"{mine} cannot start as {theirs}: one reads from left to right, the other both ways"
    )


def in_teacher(name, sources):
    """The teacher's canonical name for a student's; sources: see `block_sources`."""
    if not name.startswith("layer."):
        return name
    _, block, rest = name.split(".", 2)
    return f"layer.{sources[int(block)]}.{rest}"

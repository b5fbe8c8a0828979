"""Which layer of the student is compared with which layer of the teacher.

    uniform    student layer i ← teacher layer i·M/N         TinyBERT; N divides M
    last       student layer N ← teacher layer M             MiniLM
    skip       as uniform, without the last pair             PKD-skip
    first      student layer i ← teacher layer i             MobileBERT, where N = M

Layers are counted from 1; 0 is the embeddings' output. Sources: Jiao et al., "TinyBERT", 2020,
§3.1; Sun et al., "Patient knowledge distillation", 2019, §3.2.
"""

MAPS = ("uniform", "last", "skip", "first")


def pairs_of(layers: str | tuple, student: int, teacher: int, embeddings: bool = False) -> tuple:
    """A name of `MAPS` or ((student layer, teacher layer), …), the number of layers of both  ->
    the pairs.  embeddings: with (0,0), where a name is given.

    Raises ValueError for layers that do not exist or do not divide.
    """
    if isinstance(layers, str):
        pairs = _named(layers, student, teacher)
        return ((0, 0), *pairs) if embeddings else pairs
    for i, j in layers:
        if not (0 <= i <= student and 0 <= j <= teacher):
            raise ValueError(
                f"layers {(i, j)}: the student has 0 to {student}, the teacher 0 to {teacher}; 0 "
                f"is the embeddings' output"
            )
    return tuple(layers)


def _named(name, student, teacher):
    if name not in MAPS:
        raise ValueError(f"layers must be one of {', '.join(MAPS)}, or pairs, not {name!r}")
    if name == "last":
        return ((student, teacher),)
    if name == "first":
        if student > teacher:
            raise ValueError(
                f"the student's {student} layers need as many of the teacher, not {teacher}"
            )
        return tuple((i, i) for i in range(1, student + 1))
    if teacher % student:
        raise ValueError(
            f"{teacher} layers of the teacher do not divide into {student} equal parts; give the "
            f"pairs of layers"
        )
    pairs = tuple((i, i * teacher // student) for i in range(1, student + 1))
    return pairs if name == "uniform" else pairs[:-1]

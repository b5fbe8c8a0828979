"""The same texts in the tokens of two models, side by side in each batch."""

THEIRS = "teacher_"  # the prefix of the arrays that the teacher reads
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class ReadTwice:
    """The student's data, whose batches hold the teacher's inputs as well.

    mine, theirs: examples in memory, the same in the same order, in either model's tokens.
    Batches are made by the student's lengths.
    """

    def __init__(self, mine, theirs):
        if len(mine.sequences) != len(theirs.sequences):
            raise ValueError(
                f"student and teacher must read the same texts, not {len(mine.sequences)} and "
                f"{len(theirs.sequences)}"
            )
        self.mine, self.theirs, self.seed = mine, theirs, mine.seed
        self.labelled = mine.labelled

    def batches(self, epoch):
        return self.mine.batches(epoch)

    def collate(self, indices, *, step=0, first_sequence=0):
        batch = self.mine.collate(indices, step=step, first_sequence=first_sequence)
        theirs = self.theirs.collate(indices, step=step, first_sequence=first_sequence)
        return batch | {THEIRS + name: x for name, x in theirs.items() if name in INPUTS}

    def evaluation_batches(self):
        return [self.collate(numbers) for numbers in self.mine.evaluation_numbers()]


def reads_twice(batch):
    """Whether the batch holds the teacher's own tokens beside the student's."""
    return any(name.startswith(THEIRS) for name in batch)


def as_teacher_reads(batch):
    """The batch in the teacher's own tokens, where it holds them beside the student's."""
    own = {n.removeprefix(THEIRS): x for n, x in batch.items() if n.startswith(THEIRS)}
    if not own:
        return batch
    rest = {n: x for n, x in batch.items() if n not in INPUTS and not n.startswith(THEIRS)}
    return rest | own

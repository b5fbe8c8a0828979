"""Detection of a wrong output: all quantities are correct, and the module returns another one."""

from minidistil.check.findings import Diagnosis
from minidistil.check.mistakes import mistakes_of
from minidistil.check.program import stage_of

SAME = 1e-5  # relative; two different quantities are further apart


def handed_out(reference, alignment, returned):
    """(quantity, diagnosis, where) of a returned tensor that holds another quantity."""
    for label, tensor in returned:
        where = f"what the module returns as {label}"

        def is_(name, tensor=tensor):
            exact = reference.values[name]
            views = reference.frame.views(tensor.detach().double().numpy(), exact.shape)
            return any(reference.error(view, exact) < SAME for view in views)

        for wanted, name, op, id in _mistaken(reference, label, tensor.numel()):
            if is_(name) and not any(is_(n) for n in wanted):
                m = next(m for m in mistakes_of(op) if m.id == id)
                found = Diagnosis(m.id, m.message(), where, f"{label} is {name}, to rounding")
                return wanted[-1], [found], where
    return None, [], None


def _mistaken(reference, label, size):
    """(quantities expected under this name and size, the one to detect, op, mistake's id)."""
    names = list(reference.values)
    if size == reference.values[reference.body[0]].size:
        states = [n for n in names if n == "embeddings" or n.endswith(".output")]
        for name in names:
            if name.endswith("output_sum"):
                own = f"{stage_of(name)}.output"
                yield [*states, own], name, "block", "hidden-before-norm"
    if "start_logits" in names and size == reference.values["start_logits"].size:
        for mine, other in (("start", "end"), ("end", "start")):
            if mine in label.lower():
                yield [f"{mine}_logits"], f"{other}_logits", "spans", "span-ends-swapped"

"""What a comparison leaves out: the line "not compared: …" that ends every report."""

SHOWN = 3  # names of a kind that are written out
KINDS = {  # the first word of an entry: how several of the kind are counted
    "quantity": "quantities", "parameter": "parameters that the module does not hold",
    "weight": "weights of the module that the folder does not have",
    "returned": "returned arrays", "gradient": "gradients that do not arrive at the outputs",
    "frozen": "gradients of frozen parameters", "unwritten": "gradients that are not written",
    "unknown": "arrays that hold no quantity", "unpaired": "gradients of unknown parameters",
}  # fmt: skip


def line(entries):
    """The entries of `Report.unmatched` as one line, those of a kind together."""
    kinds = {}
    for entry in entries:
        kind = entry.split(" ", 1)[0]
        kinds.setdefault(kind if kind in KINDS else entry, []).append(entry)
    parts = [_some(kind, some) for kind, some in kinds.items()]
    return "not compared: " + ("; ".join(parts) or "nothing that the model has")


def _some(kind, entries):
    if kind not in KINDS or len(entries) == 1:
        return entries[0]
    names = [entry.split(" ", 1)[1].removesuffix(" of the module") for entry in entries[:SHOWN]]
    more = ", …" if len(entries) > SHOWN else ""
    return f"{len(entries)} {KINDS[kind]} ({', '.join(names)}{more})"


def gradients_left_out(comparison, reference, trainable):
    """An entry for each parameter that the module holds and whose gradient has no row."""
    public, rows = reference.program.names, comparison.report.rows
    compared = {row.name for row in rows if row.kind == "gradient"}
    holder = {same: p.name for p in comparison.weights.pieces for same in p.same}
    for name, weight in holder.items():
        if f"grad.{public[name]}" not in compared:
            yield f"{'gradient' if weight in trainable else 'frozen'} {public[name]}"

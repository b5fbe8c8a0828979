"""A share of the labelled texts, of each class the same share."""

import json
import math
import random
from pathlib import Path

from minidistil.data.sources import examples
from minidistil.io import files


def with_few_labels(train: Path, share: float, out: Path) -> Path:
    """Write the texts whose labels are known, a share of `train`; returns the file.

    The texts of a class are shuffled, the same way for each share, and the first are taken, at
    least one: a larger share has all texts of a smaller one.
    """
    by_class = {}
    for row in examples(train):
        by_class.setdefault(row[2], []).append(row)
    order, kept = random.Random(0), []
    for label in sorted(by_class):
        order.shuffle(by_class[label])
        kept += by_class[label][: math.ceil(share * len(by_class[label]))]
    order.shuffle(kept)
    lines = []
    for text, pair, label in kept:
        both = {"text": text} if pair is None else {"text": text, "text_pair": pair}
        lines.append(json.dumps(both | {"label": label}, ensure_ascii=False) + "\n")
    path = out / f"few-{share:g}.jsonl"
    files.write_text(path, "".join(lines))
    return path

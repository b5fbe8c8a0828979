"""Tags of the pieces of a text, or the entities that they make.

Source: the answers of transformers' TokenClassificationPipeline, "none" and "simple".
"""

import numpy as np

from minidistil.data.entities import OUTSIDE
from minidistil.pipeline.predictor import Predictor, listed

STRATEGIES = ("none", "simple")


class TokenClassification(Predictor):
    def __call__(self, inputs, aggregation_strategy="none", ignore_labels=(OUTSIDE,)):
        """aggregation_strategy: "none" answers for every piece, "simple" joins what goes on."""
        if aggregation_strategy not in STRATEGIES:
            raise ValueError(
                f"aggregation_strategy must be one of {', '.join(STRATEGIES)}, "
                f"not {aggregation_strategy!r}"
            )
        texts, answers = listed(inputs), []
        for encodings, rows, result in self.results(texts):
            scores = self.model.ops.place.fetch(self.model.ops.softmax.forward(result.logits)[0])
            for encoding, mine in zip(encodings, np.split(scores, rows.bounds[1:-1]), strict=True):
                pieces = self._pieces(texts[len(answers)], encoding, mine)
                if aggregation_strategy == "simple":
                    pieces = [self._entity(group) for group in _groups(pieces)]
                kind = "entity_group" if aggregation_strategy == "simple" else "entity"
                answers.append([piece for piece in pieces if piece[kind] not in ignore_labels])
        return answers if isinstance(inputs, list) else answers[0]

    def _pieces(self, text, encoding, scores):
        """The best tag of every piece of the text itself."""
        names, unknown = self.model.config.to_dict()["id2label"], self.tokenizer.unk_id
        found = []
        for t, special in enumerate(encoding.special_tokens_mask):
            if special:
                continue
            start, end = encoding.offsets[t]
            best = int(scores[t].argmax())
            found.append({
                "entity": names[str(best)], "score": float(scores[t, best]), "index": t,
                "word": text[start:end] if encoding.ids[t] == unknown else encoding.tokens[t],
                "start": start, "end": end,
            })  # fmt: skip
        return found

    def _entity(self, group):
        words = [piece["word"] for piece in group]
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([piece["score"] for piece in group])),
            "word": self.tokenizer.backend.decoder.decode(words),
            "start": group[0]["start"], "end": group[-1]["end"],
        }  # fmt: skip


def _groups(pieces):
    """Neighbours of one kind, up to the next that begins: B-X."""
    groups = []
    for piece in pieces:
        begins, kind = _kind(piece)
        if groups and not begins and kind == _kind(groups[-1][-1])[1]:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _kind(piece):
    """Whether a tag begins an entity, and of what kind; a tag without B- or I- only goes on."""
    tag = piece["entity"]
    return (tag[:2] == "B-", tag[2:]) if tag[:2] in ("B-", "I-") else (False, tag)

"""Tags of the pieces of a text, or of its words, or the entities that they make.

    none      every piece by itself
    simple    neighbouring pieces of one kind are an entity
    first     a word's tag is that of its first piece, which is the one that a tagger learns
    average   that of the mean of its pieces' probabilities
    max       that of its surest piece; after each of these three, neighbouring words as in simple

Source: the answers of transformers' TokenClassificationPipeline.
"""

import numpy as np

from minidistil.data.entities import OUTSIDE
from minidistil.pipeline.predictor import Predictor, listed

OF_WORDS = {  # pieces' probabilities (n,K)  ->  the word's (K,)
    "first": lambda scores: scores[0],
    "average": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores[scores.max(axis=1).argmax()],
}
STRATEGIES = ("none", "simple", *OF_WORDS)


class TokenClassification(Predictor):
    """A tagger's answers; a strategy says of what."""

    def __call__(self, inputs, aggregation_strategy="none", ignore_labels=(OUTSIDE,)):
        """aggregation_strategy: "none" answers for every piece, the others for entities."""
        if aggregation_strategy not in STRATEGIES:
            raise ValueError(
                f"aggregation_strategy must be one of {', '.join(STRATEGIES)}, "
                f"not {aggregation_strategy!r}"
            )
        texts, answers = listed(inputs), []
        kind = "entity" if aggregation_strategy == "none" else "entity_group"
        for encodings, rows, result in self.results(texts):
            scores = self.model.ops.place.fetch(self.model.ops.softmax.forward(result.logits)[0])
            for encoding, mine in zip(encodings, np.split(scores, rows.bounds[1:-1]), strict=True):
                text = texts[len(answers)]
                found = self._pieces(text, encoding, mine)
                if aggregation_strategy in OF_WORDS:
                    of_word = OF_WORDS[aggregation_strategy]
                    words = self._words(text, encoding, found)
                    found = [self._word(word, mine, of_word) for word in words]
                if kind == "entity_group":
                    found = [self._entity(group) for group in _groups(found)]
                answers.append([one for one in found if one[kind] not in ignore_labels])
        return answers if isinstance(inputs, list) else answers[0]

    def _pieces(self, text, encoding, scores):
        """The best tag of every piece of the text itself."""
        unknown, found = self.tokenizer.unk_id, []
        for t, special in enumerate(encoding.special_tokens_mask):
            if special:
                continue
            start, end = encoding.offsets[t]
            found.append({
                **self._best(scores[t]), "index": t,
                "word": text[start:end] if encoding.ids[t] == unknown else encoding.tokens[t],
                "start": start, "end": end,
            })  # fmt: skip
        return found

    def _best(self, scores):
        """Probabilities (K,)  ->  the likeliest tag."""
        names, best = self.model.config.to_dict()["id2label"], int(scores.argmax())
        return {"entity": names[str(best)], "score": float(scores[best])}

    def _words(self, text, encoding, pieces):
        """Lists of the pieces of each word.

        A piece goes on with a word where the tokenizer marks it so (WordPiece's ##), else where no
        space is before it or at its beginning; an unknown one is a word.
        """
        mark, groups = getattr(self.tokenizer.backend.model, "continuing_subword_prefix", None), []
        for piece in pieces:
            start, t = piece["start"], piece["index"]
            if mark:
                goes_on = encoding.tokens[t].startswith(mark)
            else:
                goes_on = start > 0 and " " not in text[start - 1 : start + 1]
            if groups and goes_on and encoding.ids[t] != self.tokenizer.unk_id:
                groups[-1].append(piece)
            else:
                groups.append([piece])
        return groups

    def _word(self, pieces, scores, of_word):
        """The pieces of a word as one."""
        places = [piece["index"] for piece in pieces]
        return {**self._best(of_word(scores[places])), **self._joined(pieces)}

    def _entity(self, group):
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([piece["score"] for piece in group])),
            **self._joined(group),
        }

    def _joined(self, group):
        return {
            "word": self.tokenizer.backend.decoder.decode([piece["word"] for piece in group]),
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

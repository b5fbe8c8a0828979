"""Texts in, answers out, in the shapes that transformers' pipelines give them.

predict = pipeline("fill-mask", folder)
predict("The movie was [MASK].")      [{"score", "token", "token_str", "sequence"}, …]
"""

import warnings

import numpy as np

from minidistil.data import check_vocabulary, load_tokenizer
from minidistil.model import network
from minidistil.model.pretrained import from_pretrained, resolve

TOGETHER = 32  # texts computed at once


def pipeline(task, folder, *, backend="cpu", dtype=None):
    """A predictor for task "fill-mask", "text-classification" or "feature-extraction".

    folder: a model with its tokenizer, or a name on the hub; backend, dtype: see `from_pretrained`.
    predict(text) answers for one text, predict([texts]) for several; a classifier also takes
    {"text": …, "text_pair": …}.

        fill-mask            [{"score", "token", "token_str", "sequence"}, …] top_k=5 of them; with
                             several [MASK]s in a text a list of such lists
        text-classification  [{"label", "score"}], with top_k that many of them (None: all);
                             for several texts one dict, or with top_k one list, each
        feature-extraction   nested lists (1,T,C), for several texts a list of these

    Raises ValueError or MissingFileError for a bad folder, an empty text, a text without [MASK].
    """
    if task not in PREDICTORS:
        raise ValueError(f"task must be one of {', '.join(PREDICTORS)}, not {task!r}")
    folder = resolve(folder)
    model = from_pretrained(folder, task=task, backend=backend, dtype=dtype)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return PREDICTORS[task](model, tokenizer)


class _Predictor:
    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def _results(self, inputs):
        """Each chunk's encodings, rows and network.Result; only [MASK]s get vocabulary logits."""
        for start in range(0, len(inputs), TOGETHER):
            texts, pairs = _columns(inputs[start : start + TOGETHER])
            encodings = self.tokenizer.encodings(texts, pairs)
            for number, encoding in enumerate(encodings, start):
                if encoding.overflowing:
                    warnings.warn(
                        f"text {number} is longer than the model's {self.tokenizer.max_length} "
                        f"tokens; it reads the beginning", stacklevel=4,
                    )  # fmt: skip
            batch = {
                name: np.array([getattr(e, name) for e in encodings], np.int64)
                for name in ("ids", "attention_mask", "type_ids")
            }
            types = batch["type_ids"] if self.tokenizer.token_types else None
            rows = self.model.pack(batch["ids"], batch["attention_mask"], types)
            select = self._select(rows)
            result, _ = network.forward(
                self.model.canonical(), rows, self.model.config, self.model.task, None,
                self.model.ops, select=select, keep=False,
            )  # fmt: skip
            yield encodings, rows, result

    def _select(self, rows):
        return None


class FillMask(_Predictor):
    def __call__(self, inputs, top_k=5):
        texts = _listed(inputs)
        if not 1 <= top_k <= self.model.config.vocab_size:
            raise ValueError(
                f"top_k must be 1 to {self.model.config.vocab_size}, the words there are, "
                f"not {top_k}"
            )
        answers = []
        for encodings, rows, result in self._results(texts):
            probs = self.model.ops.place.fetch(self.model.ops.softmax.forward(result.logits)[0])
            owner = rows.sequence[self._select(rows)]
            for b, encoding in enumerate(encodings):
                mine = probs[owner == b]
                if not len(mine):
                    raise ValueError(
                        f"text {len(answers)} has no {self.tokenizer.names['mask']} for the model "
                        f"to fill; put one where a word is missing"
                    )
                answers.append(self._answer(np.array(encoding.ids), mine, top_k))
        return answers[0] if len(texts) == 1 else answers

    def _select(self, rows):
        return np.flatnonzero(rows.ids == self.tokenizer.mask_id)

    def _answer(self, ids, probs, top_k):
        """ids (T,), probs (masks,V)  ->  a list of words for one mask, else a list of lists."""
        places = np.flatnonzero(ids == self.tokenizer.mask_id)
        answer = []
        for place, p in zip(places, probs, strict=True):
            words = []
            for token in np.argsort(-p, kind="stable")[:top_k]:
                filled = ids.copy()
                filled[place] = token
                filled = filled[filled != self.tokenizer.pad_id]
                words.append({
                    "score": float(p[token]), "token": int(token),
                    "token_str": self.tokenizer.decode([token], skip_special_tokens=False),
                    "sequence": self.tokenizer.decode(filled, len(places) == 1),
                })  # fmt: skip
            answer.append(words)
        return answer[0] if len(places) == 1 else answer


class TextClassification(_Predictor):
    def __call__(self, inputs, top_k=""):
        """top_k: how many labels; None for all; without it the best one, not in a list."""
        names = self.model.config.to_dict()["id2label"]
        answers = []
        for _, _, result in self._results(_listed(inputs)):
            for scores in self._scores(result.logits):
                order = np.argsort(-scores, kind="stable")
                ranked = [{"label": names[str(k)], "score": float(scores[k])} for k in order]
                answers.append(ranked[0] if top_k == "" else ranked[:top_k])
        if isinstance(inputs, list):
            return answers
        return answers if top_k == "" and isinstance(inputs, str) else answers[0]

    def _scores(self, logits):
        config, fetch = self.model.config, self.model.ops.place.fetch
        if config.problem_type == "regression":
            return fetch(logits)
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return 1 / (1 + np.exp(-fetch(logits)))
        return fetch(self.model.ops.softmax.forward(logits)[0])


class FeatureExtraction(_Predictor):
    def __call__(self, inputs):
        vectors = []
        for _, rows, result in self._results(_listed(inputs)):
            hidden = np.split(self.model.ops.place.fetch(result.hidden[-1]), rows.bounds[1:-1])
            vectors.extend([h.tolist()] for h in hidden)
        return vectors if isinstance(inputs, list) else vectors[0]


PREDICTORS = {
    "fill-mask": FillMask,
    "text-classification": TextClassification,
    "feature-extraction": FeatureExtraction,
}


def _listed(inputs):
    inputs = inputs if isinstance(inputs, list) else [inputs]
    if not inputs:
        raise ValueError("there are no texts; give at least one")
    return inputs


def _columns(inputs):
    """Texts or {"text", "text_pair"}  ->  texts, and the pairs or None."""
    if not any(isinstance(x, dict) for x in inputs):
        return inputs, None
    if not all(isinstance(x, dict) and "text" in x for x in inputs):
        raise ValueError('each input must be a string, or each {"text": …, "text_pair": …}')
    pairs = [x.get("text_pair") for x in inputs]
    if len({pair is None for pair in pairs}) > 1:
        raise ValueError("either every input has a text_pair or none has")
    return [x["text"] for x in inputs], None if pairs[0] is None else pairs

"""Predicts labels of texts or pairs of texts, with probabilities, or refuses as out of scope."""

from collections.abc import Mapping

import numpy as np

from minidistil.data.windows import mean_of
from minidistil.io.arguments import number, whole
from minidistil.tasks.base_predictor import Predictor, listed
from minidistil.tasks.text_classification.data import SINGLE

OUT_OF_SCOPE = "out of scope"


class TextClassification(Predictor):
    """Predicts one class, several classes, or a number, as the model's problem_type requires."""

    def __call__(
        self, inputs: str | dict | list, top_k: int | str | None = "",
        out_of_scope: float | None = None, max_length: int | None = None,
        stride: int | None = None,
    ) -> dict | list:  # fmt: skip
        """inputs: a text, {"text", "text_pair"}, or a list of them  ->  {"label", "score"} of each.

        top_k: how many labels, in a list; None for all; by default the best one, not in a list.

        out_of_scope: if the best label's probability is smaller, "out of scope" precedes the
        labels, with that probability. Raises ValueError for it if the labels' probabilities do not
        sum to 1.

        A text longer than max_length tokens (None: the model's length) is read in windows that
        share `stride` pieces, and has the mean of their logits.
        """
        if top_k not in ("", None):
            top_k = whole("top_k", top_k, 1)
        self._check(out_of_scope)
        answers = []
        place = self.model.ops.place
        for _, parts, runs in self.windowed(listed(inputs), max_length, stride):
            logits = np.concatenate([place.fetch(result.logits) for _, result in runs])
            for scores in self._scores(place.send(mean_of(logits, parts.owners))):
                found = ranked(scores, self.names)
                if out_of_scope is not None and found[0]["score"] < out_of_scope:
                    found = [{"label": OUT_OF_SCOPE, "score": found[0]["score"]}, *found]
                answers.append(found[0] if top_k == "" else found[:top_k])
        if isinstance(inputs, list):
            return answers
        return answers if top_k == "" and isinstance(inputs, str) else answers[0]

    @property
    def names(self) -> dict[str, str]:
        """{"0": the label of class 0, …}."""
        return self.model.config.to_dict()["id2label"]

    def _check(self, out_of_scope):
        config = self.model.config
        if out_of_scope is None:
            return
        if config.problem_type not in (None, SINGLE) or config.num_labels == 1:
            raise ValueError(
                f"out_of_scope needs one label a text, not {config.problem_type} with "
                f"{config.num_labels} labels; leave it out"
            )
        if number("out_of_scope", out_of_scope, 0) > 1:
            raise ValueError(f"out_of_scope must be a probability, 0 to 1, not {out_of_scope}")

    def _scores(self, logits):
        config, fetch = self.model.config, self.model.ops.place.fetch
        if config.problem_type == "regression":
            return fetch(logits)
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return 1 / (1 + np.exp(-fetch(logits)))
        return fetch(self.model.ops.softmax.forward(logits)[0])


def ranked(scores: np.ndarray, names: Mapping[str, str]) -> list[dict]:
    """scores (K,)  ->  [{"label", "score"}, …], the best first."""
    order = np.argsort(-scores, kind="stable")
    return [{"label": names[str(k)], "score": float(scores[k])} for k in order]

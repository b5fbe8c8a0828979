"""Labels of texts, or of pairs of texts, with their probabilities."""

import numpy as np

from minidistil.pipeline.predictor import Predictor, listed


class TextClassification(Predictor):
    def __call__(self, inputs, top_k=""):
        """top_k: how many labels; None for all; without it the best one, not in a list."""
        names = self.model.config.to_dict()["id2label"]
        answers = []
        for _, _, result in self.results(listed(inputs)):
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

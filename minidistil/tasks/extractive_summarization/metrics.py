"""The oracle: sentences with the highest ROUGE against a reference, as labels of the extractor.

Greedy search: each step adds the sentence that raises ROUGE-1 F + ROUGE-2 F against the summary
most, until none raises it or there are enough. The chosen sentences are scored in the document's
order, because pairs of words may cross from one to the next.
Source: Nallapati et al., "SummaRuNNer", 2017, §3, and Liu, "BertSum", 2019; ROUGE as rouge-score
computes it, where BertSum's own counts each pair of words once.
"""

from collections.abc import Sequence

from minidistil.tasks.text_metrics import library


class Oracle:
    """oracle(sentences, targets, most)  ->  numbers of sentences, at most `most`, ascending.

    Of several targets the best counts, for each of the two metrics.
    """

    def __init__(self):
        tokenizers = library("rouge_score.tokenizers")
        self.words = tokenizers.DefaultTokenizer(use_stemmer=True).tokenize
        scorer = library("rouge_score.rouge_scorer").RougeScorer
        self.scorer = scorer(["rouge1", "rouge2"], tokenizer=Spaces())

    def __call__(self, sentences: Sequence[str], targets: Sequence[str], most: int) -> list[int]:
        sentences = [" ".join(self.words(sentence)) for sentence in sentences]
        targets = [" ".join(self.words(target)) for target in targets]
        chosen, best = [], 0.0
        while len(chosen) < min(most, len(sentences)):
            more = [sorted([*chosen, i]) for i in range(len(sentences)) if i not in chosen]
            scores = [self._score(numbers, sentences, targets) for numbers in more]
            if max(scores) <= best:
                break
            best = max(scores)
            chosen = more[scores.index(best)]
        return chosen

    def _score(self, chosen, sentences, targets):
        found = self.scorer.score_multi(targets, " ".join(sentences[i] for i in chosen))
        return found["rouge1"].fmeasure + found["rouge2"].fmeasure


class Spaces:
    """The rouge_score tokenizer of sentences that are tokenised already."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()

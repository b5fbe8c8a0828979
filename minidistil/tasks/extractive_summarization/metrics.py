"""Which sentences of a document a summary is best made of: the labels of extractive summaries.

Greedily: the sentence is added that raises ROUGE-1 F + ROUGE-2 F against the summary most, until
none raises it or there are enough. The sentences stand in the document's order whenever they are
scored, for pairs of words may cross from one to the next.
Source: Nallapati et al., "SummaRuNNer", 2017, §3, and Liu, "BertSum", 2019; ROUGE as rouge-score
computes it, where BertSum's own counts each pair of words once.
"""

from minidistil.tasks.text_metrics import library


class Oracle:
    """oracle(sentences, targets, most)  ->  numbers of sentences, at most `most`, ascending.

    Of several targets the best counts, for each of the two measures.
    """

    def __init__(self):
        tokenizers = library("rouge_score.tokenizers")
        self.words = tokenizers.DefaultTokenizer(use_stemmer=True).tokenize
        scorer = library("rouge_score.rouge_scorer").RougeScorer
        self.scorer = scorer(["rouge1", "rouge2"], tokenizer=Spaces())

    def __call__(self, sentences, targets, most):
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
    """The tokenizer of what has been tokenised already, so that each sentence is once."""

    def tokenize(self, text):
        return text.split()

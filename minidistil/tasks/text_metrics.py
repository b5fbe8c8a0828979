"""Metrics of generated texts against references: BLEU and ROUGE.

BLEU    the precision of n-grams of one to four words, with a penalty for brevity; over the whole
        corpus. Papineni et al., 2002, as sacrebleu computes it.
ROUGE   F1 of single words, of pairs, and of the longest common subsequence; the best of several
        references, the mean over the texts. Lin, 2004, as rouge-score computes it.
"""

from collections.abc import Sequence
from types import ModuleType


def bleu(texts: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, float]:
    """texts: B strs, wanted: B lists of references  ->  {"bleu": 0 to 100}."""
    sacrebleu = library("sacrebleu")
    most = max(map(len, wanted))
    references = [[w[i] if i < len(w) else None for w in wanted] for i in range(most)]
    return {"bleu": sacrebleu.corpus_bleu(texts, references).score}


def rouge(texts: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, float]:
    """The same  ->  {"rouge1", "rouge2", "rougeL"}, each 0 to 100."""
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = library("rouge_score.rouge_scorer").RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score_multi(w, text) for text, w in zip(texts, wanted, strict=True)]
    return {kind: 100 * sum(s[kind].fmeasure for s in scores) / len(scores) for kind in kinds}


def library(name: str) -> ModuleType:
    """The module of that name. Raises ModuleNotFoundError with the package to install."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this measure needs {error.name}, which is not installed: pip install "
            f"'minidistil[eval]'"
        ) from None

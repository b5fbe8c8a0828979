"""The oracle of extractive summaries, against every choice there is."""

import random
from itertools import combinations

import pytest

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")

from minidistil.tasks.extractive_summarization.metrics import Oracle  # noqa: E402

WORDS = "we prove bounds a model learns films great loved actors".split()  # noqa: SIM905
SCORER = rouge_scorer.RougeScorer(["rouge1", "rouge2"], use_stemmer=True)


def score(chosen, sentences, targets):
    """ROUGE-1 F + ROUGE-2 F of the sentences in their order, as the library alone gives it."""
    found = SCORER.score_multi(targets, " ".join(sentences[i] for i in sorted(chosen)))
    return found["rouge1"].fmeasure + found["rouge2"].fmeasure


def document(rng):
    def text(least, most):
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    sentences = [f"{text(2, 6)}." for _ in range(rng.randint(1, 6))]
    return sentences, [text(3, 9) for _ in range(rng.randint(1, 3))]


@pytest.mark.parametrize("seed", range(25))
def test_every_step_is_the_best_one_and_the_last_is_the_end(seed):
    sentences, targets = document(random.Random(seed))
    oracle, every = Oracle(), range(len(sentences))
    single = max(score([i], sentences, targets) for i in every)
    before = []
    for most in range(1, len(sentences) + 2):
        chosen = oracle(sentences, targets, most)
        assert chosen == sorted(set(chosen)) and len(chosen) <= most
        mine = score(chosen, sentences, targets) if chosen else 0
        if most == 1:
            assert mine == pytest.approx(single)
        if len(chosen) > len(before):
            best = max(score([*before, i], sentences, targets) for i in every if i not in before)
            assert mine == pytest.approx(best) and set(before) < set(chosen)
            assert mine > (score(before, sentences, targets) if before else 0)
        else:  # nothing raises it any more
            assert chosen == before
            more = [score([*before, i], sentences, targets) for i in every if i not in before]
            assert not more or max(more) <= mine + 1e-12
        everything = max(
            score(c, sentences, targets) for k in range(1, most + 1) for c in combinations(every, k)
        ) if most <= len(sentences) else mine  # fmt: skip
        assert mine <= everything + 1e-12
        before = chosen


def test_nothing_alike_is_nothing_chosen():
    assert Oracle()(["Great films.", "Actors."], ["we prove bounds"], 3) == []


def test_two_halves_of_a_summary_are_found_in_order():
    sentences = ["The actors loved it.", "A film, nobody knows.", "We prove a bound."]
    assert Oracle()(sentences, ["we prove bounds", "the actor loves it; we prove a bound"], 3) == [
        0,
        2,
    ]

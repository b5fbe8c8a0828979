"""Chapter 1, a tour: the negative log-likelihood of a word."""

import numpy as np

from minidistil.lesson.exercise import exercise, rng


def inputs():
    """Logits whose e^z overflows, ordinary ones, and a word whose probability is 0 in float64."""
    ordinary = 2 * rng().standard_normal(7)
    return [(np.array([1000.0, 1001.0, 990.0]), 0), (ordinary, 3), (np.array([5.0, -995.0]), 1)]


@exercise(
    cases=inputs,
    hint="−ln(e^a/Σe^z) = ln Σe^z − a, and subtracting one number from all logits changes nothing.",
)
def nll(z, word):
    z = z - z.max()
    return np.log(np.exp(z).sum()) - z[word]


@nll.right
def by_logaddexp(z, word):
    return np.logaddexp.reduce(z) - z[word]


@nll.right
def shifted_by_the_word(z, word):
    top = z.max()
    return float(top - z[word] + np.log(np.exp(z - top).sum()))


nll.wrong("this is ln p, without the minus sign")(lambda z, word: -nll(z, word))
nll.wrong("this is p itself, its logarithm is missing")(lambda z, word: np.exp(-nll(z, word)))
nll.wrong("ln is the natural logarithm, this is the one to base 2")(
    lambda z, word: nll(z, word) / np.log(2)
)
nll.wrong("the logits are not normalised: their ln Σ is missing")(lambda z, word: z.max() - z[word])
nll.wrong("this is the NLL of the most probable word: `word` is the id that is asked for")(
    lambda z, word: nll(z, z.argmax())
)
nll.wrong("this is the NLL of all words: take the entry of `word`")(
    lambda z, word: np.array([nll(z, i) for i in range(len(z))])
)
nll.wrong("the sum of e^z normalises, not its mean")(lambda z, word: nll(z, word) - np.log(len(z)))


@nll.wrong("e^1000 overflows: subtract the largest logit first")
def overflowing(z, word):
    return -np.log(np.exp(z[word]) / np.exp(z).sum())


@nll.wrong("e^1000 overflows: subtract the largest logit before ln Σ")
def overflowing_sum(z, word):
    return np.log(np.exp(z).sum()) - z[word]


@nll.wrong("a p below 1e-323 becomes 0, and ln 0 is −∞: take ln Σe^z − z[word], without p")
def underflowing(z, word):
    e = np.exp(z - z.max())
    return -np.log(e[word] / e.sum())

"""Options and sentences that make everything tiny."""

SMALL = ("--backend", "numpy", "--batch-tokens", "256", "--eval-tokens", "600")
SIZES = ("--vocab-size", "150", "--layers", "2", "--hidden", "16", "--heads", "2",
         "--intermediate", "32", "--max-length", "32")  # fmt: skip
GOOD = "the film was great and we loved the actors in it"
BAD = "what a dull plot and the actors were awful to watch"


def sentence(rng, words):
    chosen = rng.choices(words.split(), k=rng.randint(12, 40))
    return " ".join(chosen)

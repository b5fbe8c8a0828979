"""The appendix, facts about DistilBERT: two counts."""

from minidistil.lesson.exercise import exercise

# ----------------------------------------------------------------------------- faster, or less time


@exercise(
    cases=lambda: [(668.0, 410.0)],
    returns=("faster", "less time"),
    hint="Speed is 1 over time: faster compares speeds, less time compares times.",
)
def faster(before, after):
    return 100 * (before - after) / after, 100 * (before - after) / before


faster.right(lambda before, after: (100 * (before / after - 1), 100 * (1 - after / before)))
faster.wrong("these are the other way round")(lambda b, a: faster(b, a)[::-1])
faster.wrong("1.63 times as fast is 63 % faster: subtract the 100 % that it was")(
    lambda b, a: (100 * b / a, 100 * (1 - a / b))
)
faster.wrong("38.6 % less time: this is the time that is left")(
    lambda b, a: (100 * (b / a - 1), 100 * a / b)
)
faster.wrong("per cent: times 100")(lambda b, a: (b / a - 1, 1 - a / b))

# ----------------------------------------------------------------------------- a layer


@exercise(
    cases=lambda: [(768, 3072), (5, 7)],
    remark="7,087,872 for BERT and DistilBERT alike.",
    hint="A linear of C to F has C·F weights and F biases; a LayerNorm has γ and β of C numbers.",
)
def layer_parameters(C, F):
    attention = 4 * (C * C + C)
    feed_forward = (C * F + F) + (F * C + C)
    return attention + feed_forward + 2 * 2 * C


layer_parameters.right(lambda C, F: 4 * C * C + 2 * C * F + 9 * C + F)
layer_parameters.wrong("each linear has a bias")(lambda C, F: 4 * C * C + 2 * C * F + 4 * C)
layer_parameters.wrong(
    "2·C numbers of the LayerNorms are missing: there are two, each with γ and β"
)(lambda C, F: layer_parameters(C, F) - 2 * C)
layer_parameters.wrong("the LayerNorms are missing")(lambda C, F: layer_parameters(C, F) - 4 * C)
layer_parameters.wrong("q, k, v are there, the output's linear is missing")(
    lambda C, F: layer_parameters(C, F) - C * C - C
)
layer_parameters.wrong("F is not 4·C in every model")(lambda C, F: layer_parameters(C, 4 * C))

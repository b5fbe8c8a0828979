"""What stands on the encoder: the masked-LM head, the pooler, and classifiers of what they read.

    masked LM    logits = LN(gelu(transform(h)))·wordᵀ + b     word: the embedding table, tied
    pooler       pooled = act(pooler(h[first token]))
    causal LM    logits = h·wordᵀ                              what the decoder says comes next
    classifiers  logits = out(dropout(x))                      x: what is pooled, or every token

BERT's pooler is tanh and DistilBERT's `pre_classifier` is ReLU: the same head with one switch.
RoBERTa keeps a pooler for its bare body, but classifies texts with layers of their own, `dense` and
`out_proj`, and dropout before both. ALBERT's masked-LM head goes down to its E channels.
Kinds of texts, of tokens, where an answer starts and ends, which choice is right, whether a
sentence follows, or in ALBERT whether two stand in their order: all are the same last layer, and
`CLASSIFIERS` says on what.
"""

from typing import NamedTuple

from minidistil.config.vit import VISION
from minidistil.model.encoder import DENSE_SITE, HEAD_SITE, expand, expand_backward, scope
from minidistil.model.rows import drop, drop_backward
from minidistil.model.vision.vision_encoder import task_named


class Family(NamedTuple):
    """What Hugging Face's classes of a family begin with, and the heads of each of its tasks."""

    prefix: str
    heads: dict


EXTRACT = "extractive-summarization"  # tokens are classified, of which the sentences' first count
CHOSEN = ("other", "summary")  # what a sentence is; a folder with these labels is for that task
WORD_TASKS = ("fill-mask", "text-generation")  # answers are words of the vocabulary
SUFFIX = {  # what the class with a task's heads ends with
    "fill-mask": "ForMaskedLM",
    "text-generation": "LMHeadModel",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    EXTRACT: "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
    "feature-extraction": "Model",
    "sentence-embedding": "Model",  # the same body; `sentence.py` pools it
    "pretraining": "ForPreTraining",
    "next-sentence-prediction": "ForNextSentencePrediction",
    "text2text-generation": "Model",
    "translation": "Model",
    "summarization": "Model",
}
CLASSIFIED = {  # tasks whose last layer is a classifier, the same in all encoders
    "text-classification": ("pooler", "classifier"),
    "token-classification": ("tokens",),
    EXTRACT: ("tokens",),
    "question-answering": ("spans",),
    "multiple-choice": ("pooler", "choice"),
}
BERT = Family("Bert", {
    "fill-mask": ("mlm",),
    **CLASSIFIED,
    "feature-extraction": ("pooler",),
    "sentence-embedding": ("pooler",),
    "pretraining": ("mlm", "pooler", "nsp"),
    "next-sentence-prediction": ("pooler", "nsp"),
})  # fmt: skip
DISTILBERT = Family("DistilBert", {
    "fill-mask": ("mlm",),
    **CLASSIFIED,
    "feature-extraction": (),
    "sentence-embedding": (),
})  # fmt: skip
ROBERTA = Family("Roberta", {
    "fill-mask": ("mlm",),
    **CLASSIFIED,
    "text-classification": ("dense", "out_proj"),
    "feature-extraction": ("pooler",),
    "sentence-embedding": ("pooler",),
})  # fmt: skip
ALBERT = Family("Albert", {
    "fill-mask": ("mlm",),
    **CLASSIFIED,
    "feature-extraction": ("pooler",),
    "sentence-embedding": ("pooler",),
    "pretraining": ("mlm", "pooler", "sop"),
})  # fmt: skip
GPT2 = Family("GPT2", {"text-generation": ("lm",), "feature-extraction": ()})
ENCODER_DECODER = Family("EncoderDecoder", {  # the same model, whatever its answers are called
    "text2text-generation": ("mlm",),
    "translation": ("mlm",),
    "summarization": ("mlm",),
})  # fmt: skip
FAMILY = {
    "bert": BERT, "distilbert": DISTILBERT, "roberta": ROBERTA, "albert": ALBERT, "gpt2": GPT2,
    "encoder-decoder": ENCODER_DECODER,
}  # fmt: skip
WORDS = ("mlm", "lm")  # the heads that give each word of the vocabulary a logit
POOLERS = ("pooler", "dense")  # what reads the first token
ORDERS = ("nsp", "sop")  # what asks, beside the words, how two texts belong together


def family_of(config):
    """The Family of a model of texts. Raises ValueError for one that reads images."""
    if config.model_type in VISION:
        raise ValueError(f"this is for models of texts, and a {config.model_type} reads images")
    return FAMILY[config.model_type]


def tasks_of(config):
    """The tasks that this family has heads for."""
    return tuple(family_of(config).heads)


def heads_of(config, task):
    """The heads of a model of this family and task. Raises ValueError for a task it lacks, and
    for words whose head has a table of its own."""
    if task not in tasks_of(config):
        raise ValueError(
            f"task must be one of {', '.join(tasks_of(config))} for {config.model_type}, "
            f"not {task!r}"
        )
    heads = family_of(config).heads[task]
    if not config.tie_word_embeddings and set(WORDS) & set(heads):
        raise ValueError(
            f"tie_word_embeddings must be true for {task}: its head shares the word embeddings"
        )
    return heads


def architecture_name(config, task):
    """The class of transformers that reads this model, e.g. DistilBertForMaskedLM."""
    return family_of(config).prefix + SUFFIX[task]


def task_of(config):
    """The task that config["architectures"] names; the family's first when it names none."""
    if config.model_type in VISION:
        return task_named(config)
    if getattr(config, "task", None) in tasks_of(config):
        return config.task
    if not config.architectures:
        return tasks_of(config)[0]
    for task in tasks_of(config):
        if architecture_name(config, task) == config.architectures[0]:
            tags = task == "token-classification"
            return EXTRACT if tags and config.id2label == CHOSEN else task
    raise ValueError(
        f"architectures names {config.architectures[0]!r}, which this version does not have; "
        f"choose a task: {', '.join(tasks_of(config))}"
    )


def logits_head(config, task):
    """The head that gives the task's logits; None for a bare body."""
    given = [head for head in heads_of(config, task) if head not in (*POOLERS, *ORDERS)]
    return given[0] if given else None


def with_outputs(config, task):
    """The config as this task needs it: an answer has a start and an end, so two labels, and a
    sentence is in the summary or not."""
    if task == EXTRACT:
        return config.with_labels(len(CHOSEN), None, CHOSEN)
    wrong = task == "question-answering" and config.num_labels != 2
    return config.with_labels(2) if wrong else config


# ---------------------------------------------------------------- masked language model


def mlm(h, p, a, ops):
    """h (M,C)  ->  features (M,C) or (M,E), cache: all but the projection onto the vocabulary.

    p: canonical parameters of the whole model.
    """
    g, transform = expand(
        h, p["transform.weight"], p["transform.bias"], a.transform_activation, ops
    )
    n, norm = ops.layernorm.forward(
        g, p["transform_norm.weight"], p["transform_norm.bias"], eps=a.eps
    )
    return n, (transform, norm, a.transform_activation)


def mlm_backward(dn, cache, ops):
    """dn (M,C) or (M,E)  ->  dh (M,C), gradients."""
    transform, norm, name = cache
    d = {}
    dg, d["transform_norm.weight"], d["transform_norm.bias"] = ops.layernorm.backward(dn, norm)
    dh, d["transform.weight"], d["transform.bias"] = expand_backward(dg, transform, name, ops)
    return dh, d


def lm_head(p):
    """What projects features onto the vocabulary: the table (V,C or E), tied, and a bias (V,).

    A decoder learns no bias: zeros stand for it (see `Model`).
    """
    return p["embeddings.word.weight"], p["decoder.bias"]


# ---------------------------------------------------------------- first token


def pool(h, first, p, name, a, dropout_state, ops):
    """h (N,C), first (B,) rows  ->  pooled (B,C), cache.  name: `pooler` or `dense`."""
    h0, gather = ops.embedding.forward(h, ids=first)  # a look-up in the rows
    x, dropped = drop(h0, a.classifier_dropout * (name == "dense"), DENSE_SITE, dropout_state, ops)
    z, linear = ops.linear.forward(x, p[f"{name}.weight"], p[f"{name}.bias"])
    op = getattr(ops, a.pooler_activation)
    pooled, activation = op.forward(z)
    return pooled, (gather, dropped, linear, activation, op, name)


def pool_backward(dpooled, cache, ops):
    """dpooled (B,C)  ->  dh (N,C), gradients."""
    gather, dropped, linear, activation, op, name = cache
    d = {}
    (dz,) = op.backward(dpooled, activation)
    dx, d[f"{name}.weight"], d[f"{name}.bias"] = ops.linear.backward(dz, linear)
    (dh,) = ops.embedding.backward(drop_backward(dx, dropped, ops), gather)
    return dh, d


# ---------------------------------------------------------------- classifiers


class Classifier(NamedTuple):
    """Dropout and a linear layer, the last of a head."""

    role: str  # of its parameters
    reads: str  # "pooled" (B,C) or "tokens" (N,C)
    dropout: str  # which of the architecture's; "" for none
    outputs: int | None = None  # None: as many as the config has labels

    def rate(self, a):
        """How likely dropout is, in this architecture."""
        return getattr(a, self.dropout) if self.dropout else 0.0


CLASSIFIERS = {
    "classifier": Classifier("classifier", "pooled", "classifier_dropout"),
    "out_proj": Classifier("out_proj", "pooled", "classifier_dropout"),
    "choice": Classifier("classifier", "pooled", "choice_dropout", 1),
    "tokens": Classifier("classifier", "tokens", "token_dropout"),
    "spans": Classifier("spans", "tokens", "span_dropout", 2),
    "nsp": Classifier("nsp", "pooled", "", 2),
    "sop": Classifier("nsp", "pooled", "classifier_dropout"),
}
LAST = tuple(f"{last.role}." for last in CLASSIFIERS.values())  # how their parameters begin


def classify(x, p, name, dropout, dropout_state, ops):
    """x (B,C) or (N,C)  ->  logits (B,K) or (N,K), cache.  name: the layer's role."""
    x, dropped = drop(x, dropout, HEAD_SITE, dropout_state, ops)
    layer = scope(p, name)
    logits, linear = ops.linear.forward(x, layer["weight"], layer["bias"])
    return logits, (dropped, linear, name)


def classify_backward(dlogits, cache, ops):
    """dlogits (B,K) or (N,K)  ->  dx, gradients."""
    dropped, linear, name = cache
    dx, dweight, dbias = ops.linear.backward(dlogits, linear)
    return drop_backward(dx, dropped, ops), {f"{name}.weight": dweight, f"{name}.bias": dbias}

"""The heads on the last hidden states h, and the tables of which task of which family has which.

    masked LM    logits = LN(gelu(transform(h)))·wordᵀ + b     word: the embedding table, tied
    causal LM    logits = h·wordᵀ                              of the next token
    pooler       pooled = act(pooler(h[first token]))
    classifiers  logits = out(dropout(x))                      x: pooled, or h of every token

The pooler's activation is tanh in BERT and ReLU in DistilBERT, whose checkpoints call it
`pre_classifier`. RoBERTa has a pooler in its bare body alone; it classifies texts with `dense` and
`out_proj`, with dropout before both. ALBERT's masked-LM head has E channels.
Every classification head is dropout plus a linear layer; `CLASSIFIERS` gives its input (pooled or
per token).
"""

from typing import NamedTuple

from minidistil.config.base import Architecture, BaseConfig
from minidistil.config.vit import VISION
from minidistil.model.context import CLASSIFIER_DROPOUT, DENSE_DROPOUT, Context, drop_backward
from minidistil.model.encoder import (
    Params,
    linear_activation,
    linear_activation_backward,
    of,
)
from minidistil.model.vision.vision_encoder import task_named


class Family(NamedTuple):
    """One family of models."""

    prefix: str  # of Hugging Face's class names
    heads: dict  # {task: its heads}


EXTRACT = "extractive-summarization"  # classifies the first token of each sentence
CHOSEN = ("other", "summary")  # its labels, by which a folder is recognised as a model for it
WORD_TASKS = ("fill-mask", "text-generation")  # the logits are over the vocabulary
SUFFIX = {  # of Hugging Face's class name, by task
    "fill-mask": "ForMaskedLM",
    "text-generation": "LMHeadModel",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    EXTRACT: "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
    "feature-extraction": "Model",
    "sentence-embedding": "Model",  # the bare body; `sentence_model` pools its hidden states
    "pretraining": "ForPreTraining",
    "next-sentence-prediction": "ForNextSentencePrediction",
    "text2text-generation": "Model",
    "translation": "Model",
    "summarization": "Model",
}
CLASSIFIED = {  # classification tasks, whose heads all encoders but RoBERTa share
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
ENCODER_DECODER = Family("EncoderDecoder", {  # one model for three tasks
    "text2text-generation": ("mlm",),
    "translation": ("mlm",),
    "summarization": ("mlm",),
})  # fmt: skip
FAMILY = {
    "bert": BERT, "distilbert": DISTILBERT, "roberta": ROBERTA, "albert": ALBERT, "gpt2": GPT2,
    "encoder-decoder": ENCODER_DECODER,
}  # fmt: skip
VOCABULARY_HEADS = ("mlm", "lm")  # logits over the vocabulary
POOLERS = ("pooler", "dense")  # of the first token
SENTENCE_PAIR_HEADS = ("nsp", "sop")  # next sentence, and in ALBERT the order of two


def family_of(config: BaseConfig) -> Family:
    """The Family of a text model. Raises ValueError for a vision model."""
    if config.model_type in VISION:
        raise ValueError(f"this is for models of texts, and a {config.model_type} reads images")
    return FAMILY[config.model_type]


def tasks_of(config: BaseConfig) -> tuple[str, ...]:
    """The tasks that this family has heads for."""
    return tuple(family_of(config).heads)


def heads_of(config: BaseConfig, task: str) -> tuple[str, ...]:
    """The heads of a model of this family and task.

    Raises ValueError for a task that the family lacks, and for an untied head over the vocabulary.
    """
    if task not in tasks_of(config):
        raise ValueError(
            f"task must be one of {', '.join(tasks_of(config))} for {config.model_type}, "
            f"not {task!r}"
        )
    heads = family_of(config).heads[task]
    if not config.tie_word_embeddings and set(VOCABULARY_HEADS) & set(heads):
        raise ValueError(
            f"tie_word_embeddings must be true for {task}: its head shares the word embeddings"
        )
    return heads


def architecture_name(config: BaseConfig, task: str) -> str:
    """The class of transformers that loads this model, e.g. DistilBertForMaskedLM."""
    return family_of(config).prefix + SUFFIX[task]


def task_of(config: BaseConfig) -> str:
    """The task that config["architectures"] names; the family's first when it names none."""
    if config.model_type in VISION:
        return task_named(config)
    if getattr(config, "task", None) in tasks_of(config):
        return config.task
    if not config.architectures:
        return tasks_of(config)[0]
    for task in tasks_of(config):
        if architecture_name(config, task) == config.architectures[0]:
            extractive = task == "token-classification" and config.id2label == CHOSEN
            return EXTRACT if extractive else task
    raise ValueError(
        f"architectures names {config.architectures[0]!r}, which this version does not have; "
        f"choose a task: {', '.join(tasks_of(config))}"
    )


def logits_head(config: BaseConfig, task: str) -> str | None:
    """The head that gives the task's logits; None for a bare body."""
    without_logits = (*POOLERS, *SENTENCE_PAIR_HEADS)
    return next((head for head in heads_of(config, task) if head not in without_logits), None)


def with_outputs(config: BaseConfig, task: str) -> BaseConfig:
    """The config with the task's number of labels: two for the start and the end of an answer, two
    for a sentence inside or outside of a summary, the config's own for other tasks."""
    if task == EXTRACT:
        return config.with_labels(len(CHOSEN), None, CHOSEN)
    wrong = task == "question-answering" and config.num_labels != 2
    return config.with_labels(2) if wrong else config


# ---------------------------------------------------------------- over the vocabulary


def mlm_transform(h, p: Params, context: Context):
    """h (M,C)  ->  LN(gelu(transform(h))) (M,C), in ALBERT (M,E), cache."""
    a = context.architecture
    g, transform = linear_activation(h, of(p, "transform"), a.transform_activation, context)
    n, norm = context.ops.layernorm.forward(g, *of(p, "transform_norm"), eps=a.eps)
    return n, (transform, norm, a.transform_activation)


def mlm_transform_backward(dn, cache: tuple, ops):
    """dn (M,C) or (M,E)  ->  dh (M,C), gradients."""
    transform, norm, activation = cache
    d = {}
    dg, d["transform_norm.weight"], d["transform_norm.bias"] = ops.layernorm.backward(dn, norm)
    dh, d["transform.weight"], d["transform.bias"] = linear_activation_backward(
        dg, transform, activation, ops
    )
    return dh, d


def lm_head(p: Params) -> tuple:
    """The projection onto the vocabulary: the embedding table (V,C), in ALBERT (V,E), and a bias
    (V,). GPT-2 has no bias: zeros stand for it (see `Model`)."""
    return p["embeddings.word.weight"], p["decoder.bias"]


def vocabulary_head(h, p: Params, head: str, context: Context, select=None, project=True):
    """h (N,C)  ->  features (M,C), logits (M,V), cache.

    head: "mlm", which transforms h first, or "lm". select: (M,) rows, None for all of them.
    project=False: no logits, as `ops.vocabulary` computes them together with their loss.
    """
    ops, gather, transform, logits, projection = context.ops, None, None, None, None
    if select is not None:
        h, gather = ops.embedding.forward(h, ids=select)  # a look-up in the rows
    if head == "mlm":
        h, transform = mlm_transform(h, p, context)
    if project:
        logits, projection = ops.linear.forward(h, *lm_head(p))
    return h, logits, (gather, transform, projection)


def vocabulary_head_backward(dlogits, projection, cache: tuple, ops):
    """dlogits (M,V)  ->  dh (N,C), the table's gradient (V,C), gradients; None, None, {} for None.

    projection: in place of dlogits, what `ops.vocabulary.backward` returns: gradients of the
    features, of the table and of the bias.
    """
    gather, transform, linear = cache
    if dlogits is not None and linear is not None:
        projection = ops.linear.backward(dlogits, linear)
    if projection is None:
        return None, None, {}
    d = {}
    dh, dword, d["decoder.bias"] = projection
    if transform is not None:
        dh, d_transform = mlm_transform_backward(dh, transform, ops)
        d |= d_transform
    if gather is not None:
        (dh,) = ops.embedding.backward(dh, gather)
    return dh, dword, d


# ---------------------------------------------------------------- pooler


def pool(h, p: Params, name: str, context: Context):
    """h (N,C)  ->  pooled (B,C) = act(linear(h of each sequence's first token)), cache.

    name: "pooler" or "dense". context: of these B rows; `bounds` are those of all rows.
    """
    a, ops = context.architecture, context.ops
    x, gather = ops.embedding.forward(h, ids=context.bounds[:-1])  # a look-up in the rows
    rate = a.classifier_dropout if name == "dense" else 0.0
    x, dropped = context.drop(x, rate, DENSE_DROPOUT)
    z, linear = ops.linear.forward(x, *of(p, name))
    op = getattr(ops, a.pooler_activation)
    pooled, activation = op.forward(z)
    return pooled, (gather, dropped, linear, activation, op, name)


def pool_backward(dpooled, cache: tuple, ops):
    """dpooled (B,C)  ->  dh (N,C), gradients."""
    gather, dropped, linear, activation, op, name = cache
    d = {}
    (dz,) = op.backward(dpooled, activation)
    dx, d[f"{name}.weight"], d[f"{name}.bias"] = ops.linear.backward(dz, linear)
    (dh,) = ops.embedding.backward(drop_backward(dx, dropped, ops), gather)
    return dh, d


# ---------------------------------------------------------------- classifiers


class Classifier(NamedTuple):
    """A head's last layer: dropout and linear."""

    role: str  # of its parameters
    reads: str  # "pooled" (B,C) or "tokens" (N,C)
    dropout: str  # the architecture's field with the rate; "" for none
    outputs: int | None = None  # None: as many as the config has labels

    def rate(self, a: Architecture) -> float:
        """The dropout rate in this architecture."""
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
CLASSIFIER_PREFIXES = tuple(
    f"{last.role}." for last in CLASSIFIERS.values()
)  # how their parameters begin


def classify(x, p: Params, classifier: Classifier, context: Context):
    """x (B,C) or (N,C)  ->  logits (B,K) or (N,K), cache."""
    x, dropped = context.drop(x, classifier.rate(context.architecture), CLASSIFIER_DROPOUT)
    logits, linear = context.ops.linear.forward(x, *of(p, classifier.role))
    return logits, (dropped, linear, classifier.role)


def classify_backward(dlogits, cache: tuple, ops):
    """dlogits (B,K) or (N,K)  ->  dx, gradients."""
    dropped, linear, role = cache
    d = {}
    dx, d[f"{role}.weight"], d[f"{role}.bias"] = ops.linear.backward(dlogits, linear)
    return drop_backward(dx, dropped, ops), d

"""A student made from some of its teacher's layers.

    teacher   embeddings  0  1  2  3  4  5  6  7  8  9 10 11  head
    student   embeddings  0     2     4        7     9    11  head     layers=(0, 2, 4, 7, 9, 11)

The student is of any family whose parameters mean the same: a BERT teaches a DistilBERT, or a
smaller BERT; a RoBERTa a DistilRoBERTa and a GPT-2 a DistilGPT2, which have fewer layers; an ALBERT
an ALBERT with fewer turns; for images see `image_student`. Embeddings, their LayerNorm and the
projector's bias are copied; what the other family lacks (DistilBERT: token types) is left behind,
and what has another shape in a narrower student starts anew. So does the rest of the masked-LM head
unless `vocab_transform` is set.
Sources: Sanh et al., "DistilBERT", 2019, §3; the choice of tensors is that of Hugging Face's
extraction scripts for DistilBERT, DistilRoBERTa and DistilGPT2.
"""

import dataclasses
from numbers import Integral

from minidistil.config import FAMILIES
from minidistil.config.vit import VISION
from minidistil.distill.image_student import image_config, image_student
from minidistil.model.heads import CLASSIFIED, CLASSIFIERS, heads_of
from minidistil.model.model import Model
from minidistil.model.params import initialise, shapes
from minidistil.model.sentence import SENTENCES, SentenceModel
from minidistil.ops import NARROW, backend

# Tasks that a student takes over with their head, and those where no token has its own answer.
HANDED_ON = (*CLASSIFIED, "text-generation", SENTENCES)
OF_TEXTS = ("text-classification", "multiple-choice", SENTENCES)
NATURAL = {"bert": "distilbert"}  # a teacher's usual student; of any other family: its own
BERT = {  # what the families call the letters of the dimension key, and other fields they share
    "vocab_size": "V", "max_position_embeddings": "P", "hidden_size": "C",
    "num_attention_heads": "H", "intermediate_size": "F", "num_hidden_layers": "L",
    "layer_norm_eps": "eps", "hidden_act": "activation", "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}  # fmt: skip
DISTILBERT = {
    "vocab_size": "V", "max_position_embeddings": "P", "dim": "C", "n_heads": "H",
    "hidden_dim": "F", "n_layers": "L", "activation": "activation", "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}  # fmt: skip
FIELDS = {
    "bert": BERT, "roberta": BERT, "albert": BERT | {"embedding_size": "width"},
    "distilbert": DISTILBERT, "gpt2": {"n_layer": "L"},
}  # fmt: skip
COMMON = ("pad_token_id", "initializer_range", "num_labels", "id2label", "problem_type")


def student_config(teacher, n_layers, family=None):
    """The config of a student with the teacher's width and `n_layers` layers.

    family: a model_type; None: "distilbert" for a BERT, for any other teacher its own family.
    Raises ValueError for an unknown family, or one that cannot start as the teacher.
    """
    config, a = teacher.config, teacher.config.architecture
    if config.model_type in VISION:
        return image_config(config, n_layers, family)
    family = family or NATURAL.get(config.model_type, config.model_type)
    if family not in FIELDS:
        raise ValueError(f"family must be one of {', '.join(FIELDS)}, not {family!r}")
    if family != config.model_type and "gpt2" in (family, config.model_type):
        raise _other_direction(family, config.model_type)
    depth = next(name for name, letter in FIELDS[family].items() if letter == "L")
    if family == config.model_type:
        changes = _turns(config, n_layers) if family == "albert" else {depth: n_layers}
        return dataclasses.replace(config, **changes, architectures=None)
    fields = {name: getattr(a, letter) for name, letter in FIELDS[family].items()}
    common = {name: getattr(config, name) for name in COMMON}
    return FAMILIES[family](**fields | {depth: n_layers}, **common)


def _turns(config, n_layers):
    """The changes to an ALBERT's config for n_layers layers: so many turns of its groups."""
    inner = config.inner_group_num
    if n_layers % inner:
        raise ValueError(
            f"this ALBERT runs its layers in groups of {inner}, which {n_layers} layers do not "
            f"fill; choose a multiple"
        )
    turns = n_layers // inner
    return {
        "num_hidden_layers": turns,
        "num_hidden_groups": min(config.num_hidden_groups, turns),
    }


def student_from(teacher, layers=(0, 2, 4, 7, 9, 11), vocab_transform=False, seed=0, family=None,
                 config=None):  # fmt: skip
    """A student whose layer i starts as the teacher's layer layers[i].

    teacher: a model for fill-mask, or with a classifier, whose head is then copied too where both
    families have it. vocab_transform: copy the masked-LM head's transform and LayerNorm as well.
    seed: for what is not copied. family: see `student_config`; config: what the student is, where
    it has other sizes: fewer heads, or fewer channels, which leaves most parameters to the seed.
    Its labels are the teacher's.
    The student computes in the teacher's dtype, but in float32 where that one is for inference
    only. Raises ValueError for a layer the teacher does not have, and for a student to which its
    parameters would mean something else, with the reason.
    """
    layers, depth = tuple(layers), teacher.config.architecture.L
    outside = [i for i in layers if not isinstance(i, Integral) or not 0 <= i < depth]
    if outside or not layers:
        raise ValueError(
            f"layers must name some of the teacher's layers 0 to {depth - 1}, not {list(layers)}"
        )
    if config is None:
        config = _for_layers(teacher, layers, family)
    elif family not in (None, config.model_type):
        raise ValueError(f"family is {family!r}, but config is a {config.model_type}'s")
    else:
        labels = ("num_labels", "id2label", "problem_type")
        config = dataclasses.replace(config, **{x: getattr(teacher.config, x) for x in labels})
    if teacher.config.model_type in VISION:
        return image_student(teacher, layers, config, seed)
    if config.model_type in VISION:
        raise ValueError(f"a {config.model_type} reads images, its teacher texts")
    sources = _sources(config, teacher.config, layers)
    task = teacher.task if teacher.task in HANDED_ON else "fill-mask"
    params = initialise(config, shapes(config, task), seed)
    given = teacher.named_by_role()
    for name in params:
        source = _source(name, sources, vocab_transform)
        if source in given and given[source].shape == params[name].shape:
            params[name] = given[source]
    ops = backend(teacher.ops.name) if teacher.dtype in NARROW else teacher.ops
    if task == SENTENCES:
        return SentenceModel(config, params, ops, teacher.pooling)
    return Model(config, task, params, ops)


def _for_layers(teacher, layers, family):
    """The student's config; an ALBERT gets as many groups as the layers have blocks."""
    config = student_config(teacher, len(layers), family)
    if config.model_type != "albert":
        return config
    blocks = {teacher.config.architecture.blocks[i] for i in layers}
    groups = -(-len(blocks) // config.inner_group_num)
    return dataclasses.replace(config, num_hidden_groups=groups)


def _sources(config, teacher, layers):
    """{a block of the student: the teacher's block that it starts as}, for two configs that fit."""
    s, t = config.architecture, teacher.architecture
    mine, theirs = config.model_type, teacher.model_type
    if len(layers) != s.L:
        raise ValueError(f"config has {s.L} layers, but {len(layers)} are named: {list(layers)}")
    if s.V != t.V:
        raise ValueError(
            f"student and teacher must share a vocabulary, not have {s.V} and {t.V} words: word "
            f"by word its embeddings are copied; without them, start from_config"
        )
    if s.causal != t.causal:
        raise _other_direction(mine, theirs)
    if s.eps != t.eps:
        fixed = "DistilBERT's" if mine == "distilbert" else "the student's"
        raise ValueError(f"{fixed} layer_norm_eps is {s.eps}, the teacher's is {t.eps}")
    if s.padding_position != t.padding_position:
        counts = [
            "by column" if a.padding_position is None else f"from id {a.padding_position} on"
            for a in (s, t)
        ]
        raise ValueError(
            f"a {mine} counts positions {counts[0]}, its {theirs} teacher {counts[1]}: their "
            f"tables mean different things; choose a student of the teacher's family"
        )
    sources = {}
    for turn, block in enumerate(s.blocks):
        source = t.blocks[layers[turn]]
        if sources.setdefault(block, source) != source:
            raise ValueError(
                f"layer {turn} of this {mine} shares its parameters with an earlier one, so it "
                f"cannot start as another layer of the teacher: {list(layers)} for blocks "
                f"{list(s.blocks)}"
            )
    return sources


def _other_direction(mine, theirs):
    return ValueError(
        f"a {mine} cannot start as a {theirs}: one reads from left to right, the other both ways"
    )


def _source(name, sources, vocab_transform):
    """The teacher's canonical name of what the student's `name` starts as, or None."""
    if name.startswith("layer."):
        _, block, rest = name.split(".", 2)
        return f"layer.{sources[int(block)]}.{rest}"
    if name.startswith("transform") and not vocab_transform:
        return None
    return name


def check_pair(student, teacher, hidden, own_words=False):
    """Raises ValueError unless the losses can compare the two.

    Classes must agree; channels too where `hidden` vectors are compared. Vocabularies must agree,
    since both read the same ids and the logits of word v are compared with those of word v; what is
    said of whole texts has nothing to do with their tokens, so there each may have the text in
    words of its own (own_words), with tokens that correspond to none of the other's.
    """
    if student.task != teacher.task:
        raise ValueError(
            f"student and teacher must share a task: {student.task!r} against {teacher.task!r}"
        )
    if hidden and getattr(teacher, "without_hidden", None):
        raise ValueError(teacher.without_hidden)
    s, t = student.config, teacher.config
    classes = set(CLASSIFIERS) & set(heads_of(s, student.task))
    texts = own_words and student.task in OF_TEXTS
    if texts and hidden:
        raise ValueError(
            "alpha_cos compares token by token, and student and teacher read a text in words of "
            "their own; set alpha_cos to 0"
        )
    pairs = []
    if not texts:
        why = "; they read the same ids"
        why += "" if classes else ", and their logits are compared word by word"
        pairs.append(("vocab_size", s.vocab_size, t.vocab_size, why))
    if classes:
        pairs.append(("num_labels", s.num_labels, t.num_labels, ""))
    if hidden:
        channels = s.architecture.C, t.architecture.C
        pairs.append(("the hidden size", *channels, "; set alpha_cos to 0"))
    for what, mine, theirs, rest in pairs:
        if mine != theirs:
            raise ValueError(
                f"student and teacher must agree in {what}: {mine} against {theirs}{rest}"
            )

"""A student made from some of its teacher's layers.

    teacher   embeddings  0  1  2  3  4  5  6  7  8  9 10 11  head
    student   embeddings  0     2     4        7     9    11  head     layers=(0, 2, 4, 7, 9, 11)

The student is of any family with the same function: a DistilBERT or a smaller BERT of a BERT, a
DistilRoBERTa of a RoBERTa, a DistilGPT2 of a GPT-2, which have fewer layers, an ALBERT of an ALBERT
with fewer repetitions of its blocks. For images see `vision_student`, for encoder–decoders
`seq2seq_student`.
Embeddings, their LayerNorm and the LM head's bias are copied. What the student's family lacks
(DistilBERT: token types) is omitted; what has another shape in a narrower student is initialised
from the seed (`partial_initialisation`), as is the rest of the masked-LM head unless
`vocab_transform` is set. Hidden states of a narrower student are compared through a projection that
the term `hidden` learns.
Sources: Sanh et al., "DistilBERT", 2019, §3; the choice of tensors is that of Hugging Face's
extraction scripts for DistilBERT, DistilRoBERTa and DistilGPT2.
"""

import dataclasses
from collections.abc import Sequence

from minidistil.config import FAMILIES, EncoderDecoderConfig
from minidistil.config.base import BaseConfig
from minidistil.config.vit import VISION
from minidistil.distill.students.layer_choice import block_sources, in_teacher, other_direction
from minidistil.distill.students.seq2seq_student import pair_student
from minidistil.distill.students.vision_student import image_config, image_student
from minidistil.distill.teachers import Teacher
from minidistil.io.arguments import switch, whole
from minidistil.io.limits import short
from minidistil.model.heads import CLASSIFIED, CLASSIFIERS, heads_of, tasks_of
from minidistil.model.model import Model
from minidistil.model.parameter_table import checked_layers
from minidistil.model.params import check_size, initialise, shapes
from minidistil.model.partial_initialisation import initialise_from
from minidistil.model.sentence.sentence_model import SENTENCES, SentenceModel
from minidistil.model.vision.vision_model import VisionModel
from minidistil.ops import NARROW, backend

WITH_HEAD = (*CLASSIFIED, "text-generation", SENTENCES)  # tasks whose head the student copies
OF_TEXTS = ("text-classification", "multiple-choice", SENTENCES)  # one output a text, not a token
NATURAL = {"bert": "distilbert"}  # the student's default family; otherwise the teacher's own
BERT = {  # config fields: letters of the dimension key, and other fields of an Architecture
    "vocab_size": "V", "hidden_size": "C", "num_attention_heads": "H", "intermediate_size": "F",
    "num_hidden_layers": "L", "layer_norm_eps": "eps", "hidden_act": "activation",
    "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
}  # fmt: skip
DISTILBERT = {
    "vocab_size": "V", "dim": "C", "n_heads": "H", "hidden_dim": "F", "n_layers": "L",
    "activation": "activation", "dropout": "dropout", "attention_dropout": "attention_dropout",
}  # fmt: skip
FIELDS = {
    "bert": BERT, "roberta": BERT, "albert": BERT | {"embedding_size": "width"},
    "distilbert": DISTILBERT, "gpt2": {"n_layer": "L"},
}  # fmt: skip
SAME_LAYER = {  # roles of RoBERTa's pooler and classifier  ->  those of other families, and back
    "dense": "pooler", "out_proj": "classifier", "pooler": "dense", "classifier": "out_proj",
}  # fmt: skip
PAIR = "encoder-decoder"
COMMON = ("pad_token_id", "initializer_range", "num_labels", "id2label", "problem_type")


def student_config(teacher: Model | VisionModel, n_layers: int, family: str | None = None):
    """The config of a student with the teacher's width and `n_layers` layers.

    family: a model_type; None: "distilbert" for a BERT, for any other teacher its own family.
    Raises ValueError for an unknown family, or one that cannot start as the teacher.
    """
    _check_teacher(teacher)
    n_layers = whole("n_layers", n_layers, 1)
    config, a = teacher.config, teacher.config.architecture
    if config.model_type in VISION:
        return image_config(config, n_layers, family)
    if config.model_type == PAIR:
        raise ValueError(
            "an encoder–decoder has layers in two halves: give them to student_from, layers and "
            "decoder_layers"
        )
    family = family or NATURAL.get(config.model_type, config.model_type)
    if family not in FIELDS:
        raise ValueError(f"family must be one of {', '.join(FIELDS)}, not {family!r}")
    if family != config.model_type and "gpt2" in (family, config.model_type):
        raise other_direction(family, config.model_type)
    depth = next(name for name, letter in FIELDS[family].items() if letter == "L")
    if family == config.model_type:
        changes = _albert_layers(config, n_layers) if family == "albert" else {depth: n_layers}
        return dataclasses.replace(config, **changes, architectures=None)
    fields = {name: getattr(a, letter) for name, letter in FIELDS[family].items()}
    unused = config.pad_token_id + 1 if family == "roberta" else 0  # rows before position 0
    fields |= {depth: n_layers, "max_position_embeddings": unused + a.longest}
    return FAMILIES[family](**fields, **{name: getattr(config, name) for name in COMMON})


def _check_teacher(teacher):
    if not isinstance(teacher, Model | VisionModel):
        raise TypeError(f"the teacher must be a model, not {short(teacher)}")


def _albert_layers(config, n_layers):
    """The changes to an ALBERT's config for n_layers layers: repetitions of its groups."""
    inner = config.inner_group_num
    if n_layers % inner:
        raise ValueError(
            f"this ALBERT runs its layers in groups of {inner}, which {n_layers} layers do not "
            f"fill; choose a multiple"
        )
    repetitions = n_layers // inner
    return {
        "num_hidden_layers": repetitions,
        "num_hidden_groups": min(config.num_hidden_groups, repetitions),
    }


def student_from(
    teacher: Model | VisionModel, layers: Sequence[int] = (0, 2, 4, 7, 9, 11),
    vocab_transform: bool = False, seed: int = 0, family: str | None = None,
    config: BaseConfig | EncoderDecoderConfig | None = None,
    decoder_layers: Sequence[int] | None = None,
) -> Model | VisionModel:  # fmt: skip
    """A student whose layer i is initialised from the teacher's layer layers[i].

    teacher: a model for fill-mask, or with a classifier, whose head is then copied too where both
    families have it. vocab_transform: copy the masked-LM head's transform and LayerNorm as well.
    seed: for what is not copied. family: see `student_config`; config: the student's, where it has
    other sizes: fewer heads, or fewer channels, where most parameters are from the seed. Its labels
    are the teacher's. decoder_layers: of an encoder–decoder, see `pair_student`.
    The student computes in the teacher's dtype, or in float32 where that is bfloat16 or int8:
    `student.with_ops(backend("cpu", "bfloat16"))` trains it in bfloat16. Raises ValueError for a
    layer the teacher does not have, and for a student that would compute another function with its
    parameters, with the reason.
    """
    _check_teacher(teacher)
    seed, _ = whole("seed", seed), switch("vocab_transform", vocab_transform)
    if not isinstance(config, BaseConfig | EncoderDecoderConfig | None):
        raise TypeError(f"config must be a config of a family, not {short(config)}")
    if not isinstance(family, str | None):
        raise TypeError(f"family must be a model_type, not {short(family)}")
    if config is not None and family not in (None, config.model_type):
        raise ValueError(f"family is {family!r}, but config is a {config.model_type}'s")
    if teacher.config.model_type == PAIR:
        if family not in (None, PAIR):
            raise ValueError(f"the student of an encoder–decoder is one, too, not a {family!r}")
        return pair_student(teacher, layers, decoder_layers, config, seed)
    if decoder_layers is not None:
        raise ValueError(
            f"decoder_layers are an encoder–decoder's, and the teacher is a "
            f"{teacher.config.model_type}: leave them out"
        )
    layers = checked_layers(layers, teacher.config.architecture.L)
    if config is None:
        config = _for_layers(teacher, layers, family)
    elif config.model_type == PAIR:
        raise ValueError(
            f"an encoder–decoder cannot start as a {teacher.config.model_type}, which has no cross "
            f"attention: make one of it with encoder_decoder_from"
        )
    else:
        labels = ("num_labels", "id2label", "problem_type")
        config = dataclasses.replace(config, **{x: getattr(teacher.config, x) for x in labels})
    if teacher.config.model_type in VISION:
        return image_student(teacher, layers, config, seed)
    if config.model_type in VISION:
        raise ValueError(f"a {config.model_type} reads images, its teacher texts")
    sources = block_sources(config, teacher.config, layers)
    task = teacher.task if teacher.task in WITH_HEAD else tasks_of(config)[0]
    wanted = shapes(config, task)
    check_size(wanted)
    params, given = initialise(config, wanted, seed), teacher.named_by_role()
    found = {}
    for name in params:
        source = in_teacher(name, sources)
        first, _, rest = source.partition(".")
        if source not in given and first in SAME_LAYER:
            source = f"{SAME_LAYER[first]}.{rest}"
        if source in given and (vocab_transform or not name.startswith("transform")):
            found[name] = given[source]
    shift = tuple(c.architecture.first_position for c in (config, teacher.config))
    params = initialise_from(params, found, shift)
    ops = backend(teacher.ops.name) if teacher.dtype in NARROW else teacher.ops
    if task == SENTENCES:
        return SentenceModel(config, params, ops, teacher.pooling)
    student = Model(config, task, params, ops)
    student.generation = teacher.generation
    return student


def _for_layers(teacher, layers, family):
    """The student's config; an ALBERT has as many groups as the chosen layers have blocks."""
    config = student_config(teacher, len(layers), family)
    if config.model_type != "albert":
        return config
    blocks = {teacher.config.architecture.blocks[i] for i in layers}
    groups = -(-len(blocks) // config.inner_group_num)
    return dataclasses.replace(config, num_hidden_groups=groups)


def check_pair(student: Model, teacher: Teacher, hidden: bool, own_words: bool = False) -> None:
    """Raises ValueError unless the losses can compare the two.

    Classes must agree; channels too where `hidden` states are compared. Vocabularies must agree, as
    both read the same ids and logits are compared token by token. For tasks with one output a text
    each model may have the text in its own tokens (own_words), without any correspondence.
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
        learnt = "; set alpha_cos to 0, and learn a projection with the term 'hidden'"
        pairs.append(("the hidden size", *channels, learnt))
    for what, of_student, of_teacher, rest in pairs:
        if of_student != of_teacher:
            raise ValueError(
                f"student and teacher must agree in {what}: {of_student} against {of_teacher}{rest}"
            )

"""A student made from some of its teacher's layers.

    teacher   embeddings  0  1  2  3  4  5  6  7  8  9 10 11  head
    student   embeddings  0     2     4        7     9    11  head     layers=(0, 2, 4, 7, 9, 11)

Word and position embeddings, their LayerNorm and the projector's bias are copied; token types are
left behind. The rest of the masked-LM head starts anew unless `vocab_transform` is set.
Source: Sanh et al., "DistilBERT", 2019, §3; the choice of tensors is that of Hugging Face's
extraction script for DistilBERT.
"""

from numbers import Integral

from minidistil.config import DistilBertConfig
from minidistil.model.heads import CLASSIFIED, CLASSIFIERS, heads_of
from minidistil.model.model import Model
from minidistil.model.params import initialise, shapes
from minidistil.ops import NARROW, backend


def student_config(teacher, n_layers):
    """The DistilBertConfig of a student with the teacher's width and `n_layers` layers."""
    config, a = teacher.config, teacher.config.architecture
    if a.eps != 1e-12:
        raise ValueError(f"DistilBERT's layer_norm_eps is 1e-12, the teacher's is {a.eps}")
    return DistilBertConfig(
        vocab_size=a.V, dim=a.C, n_layers=n_layers, n_heads=a.H, hidden_dim=a.F,
        activation=a.activation, max_position_embeddings=a.P, pad_token_id=config.pad_token_id,
        initializer_range=config.initializer_range, dropout=a.dropout,
        attention_dropout=a.attention_dropout, num_labels=config.num_labels,
        id2label=config.id2label, problem_type=config.problem_type,
    )  # fmt: skip


def student_from(teacher, layers=(0, 2, 4, 7, 9, 11), vocab_transform=False, seed=0):
    """A DistilBERT of the teacher's width whose layer i starts as the teacher's layer layers[i].

    teacher: a BERT or DistilBERT for fill-mask, or a classifier, whose head is then copied too
    where both families have it. vocab_transform: copy the masked-LM head's transform and LayerNorm
    as well. seed: for what is not copied. The student computes in the teacher's dtype, but in
    float32 where that one is for inference only.
    Raises ValueError for a layer the teacher does not have.
    """
    layers, depth = tuple(layers), teacher.config.architecture.L
    outside = [i for i in layers if not isinstance(i, Integral) or not 0 <= i < depth]
    if outside or not layers:
        raise ValueError(
            f"layers must name some of the teacher's layers 0 to {depth - 1}, not {list(layers)}"
        )
    task = teacher.task if teacher.task in CLASSIFIED else "fill-mask"
    config = student_config(teacher, len(layers))
    params = initialise(config, shapes(config, task), seed)
    given = teacher.named_by_role()
    for name in params:
        source = _source(name, layers, vocab_transform)
        if source in given and given[source].shape == params[name].shape:
            params[name] = given[source]
    ops = backend(teacher.ops.name) if teacher.dtype in NARROW else teacher.ops
    return Model(config, task, params, ops)


def _source(name, layers, vocab_transform):
    """The teacher's canonical name of what the student's `name` starts as, or None."""
    if name.startswith("layer."):
        _, i, rest = name.split(".", 2)
        return f"layer.{layers[int(i)]}.{rest}"
    if name.startswith("transform") and not vocab_transform:
        return None
    return name


def check_pair(student, teacher, hidden, own_words=False):
    """Raises ValueError unless the losses can compare the two.

    Classes must agree; channels too where `hidden` vectors are compared. Vocabularies must agree,
    since both read the same ids and the logits of word v are compared with those of word v; a
    classifier's logits are of classes, so there each may have a text in words of its own
    (own_words), with tokens that correspond to none of the other's.
    """
    if student.task != teacher.task:
        raise ValueError(
            f"student and teacher must share a task: {student.task!r} against {teacher.task!r}"
        )
    if hidden and getattr(teacher, "without_hidden", None):
        raise ValueError(teacher.without_hidden)
    s, t = student.config, teacher.config
    classes = set(CLASSIFIERS) & set(heads_of(s, student.task))
    if own_words and classes and hidden:
        raise ValueError(
            "alpha_cos compares token by token, and student and teacher read a text in words of "
            "their own; set alpha_cos to 0"
        )
    pairs = []
    if not (own_words and classes):
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

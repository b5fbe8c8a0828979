"""Configs of BERT, DistilBERT, RoBERTa and ALBERT: one encoder, four sets of field names.

BERT        token types, dropout on attention's output projection, a tanh pooler
DistilBERT  BERT without token types and pooler; LayerNorm's ε is fixed
RoBERTa     BERT with positions that start behind the padding id, and one token type
ALBERT      BERT with parameters shared between layers, and embeddings of E channels mapped to C
"""

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.base import MOST_LAYERS, Architecture, BaseConfig


@dataclass(frozen=True)
class BertConfig(BaseConfig):
    """BERT's config.json; the defaults are those of bert-base-uncased (Devlin et al., 2018)."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout: float | None = None
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    num_labels: int = 2
    id2label: tuple | None = None
    architectures: tuple | None = None
    model_type = "bert"
    fixed_options = MappingProxyType(
        {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type_vocab_size < 1:
            raise ValueError(
                f"config: type_vocab_size must be at least 1, not {self.type_vocab_size}"
            )

    @property
    def architecture(self) -> Architecture:
        classifier_dropout = self.classifier_dropout
        if classifier_dropout is None:
            classifier_dropout = self.hidden_dropout_prob
        return Architecture(
            V=self.vocab_size, P=self.max_position_embeddings, C=self.hidden_size,
            H=self.num_attention_heads, F=self.intermediate_size, L=self.num_hidden_layers,
            types=self.type_vocab_size, eps=self.layer_norm_eps, activation=self.hidden_act,
            dropout=self.hidden_dropout_prob, attention_dropout=self.attention_probs_dropout_prob,
            drops_attention_output=True, pooler_activation="tanh",
            classifier_dropout=classifier_dropout, choice_dropout=classifier_dropout,
            token_dropout=classifier_dropout, transform_activation=self.hidden_act,
        )  # fmt: skip


@dataclass(frozen=True)
class DistilBertConfig(BaseConfig):
    """DistilBERT's config.json; the defaults are the released model's (Sanh et al., 2019)."""

    vocab_size: int = 30522
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    initializer_range: float = 0.02
    seq_classif_dropout: float = 0.2
    qa_dropout: float = 0.1
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    num_labels: int = 2
    id2label: tuple | None = None
    architectures: tuple | None = None
    model_type = "distilbert"
    common_names = MappingProxyType(
        {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    )

    @property
    def architecture(self) -> Architecture:
        return Architecture(
            V=self.vocab_size, P=self.max_position_embeddings, C=self.dim, H=self.n_heads,
            F=self.hidden_dim, L=self.n_layers, types=0, eps=1e-12, activation=self.activation,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
            drops_attention_output=False, pooler_activation="relu",
            classifier_dropout=self.seq_classif_dropout, choice_dropout=self.seq_classif_dropout,
            token_dropout=self.dropout, span_dropout=self.qa_dropout,
            transform_activation=self.activation,
        )  # fmt: skip


@dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """RoBERTa's config.json; the defaults are those of roberta-base (Liu et al., 2019).

    DistilRoBERTa is the same with num_hidden_layers=6.
    """

    vocab_size: int = 50265
    max_position_embeddings: int = 514  # 512 for tokens, after pad_token_id + 1 = 2 unused rows
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    model_type = "roberta"
    transformers_defaults = MappingProxyType(
        {"max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    )

    @property
    def architecture(self) -> Architecture:
        return dataclasses.replace(
            super().architecture, choice_dropout=self.hidden_dropout_prob,
            transform_activation="gelu", padding_position=self.pad_token_id,
        )  # fmt: skip


@dataclass(frozen=True)
class AlbertConfig(BertConfig):
    """ALBERT's config.json; the defaults are those of albert-base-v2 (Lan et al., 2019).

    The encoder applies num_hidden_layers times a group of inner_group_num blocks. It stores
    num_hidden_groups groups; consecutive applications share one.
    """

    vocab_size: int = 30000
    embedding_size: int = 128
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    model_type = "albert"
    fixed_options = MappingProxyType({"position_embedding_type": "absolute"})
    transformers_defaults = MappingProxyType(
        {"hidden_size": 4096, "num_attention_heads": 64, "intermediate_size": 16384}
    )

    def __post_init__(self) -> None:
        self.check_fields()
        for name in ("embedding_size", "num_hidden_layers", "num_hidden_groups", "inner_group_num"):
            if getattr(self, name) < 1:
                raise ValueError(f"config: {name} must be at least 1, not {getattr(self, name)}")
        if self.num_hidden_groups > self.num_hidden_layers:
            raise ValueError(
                f"num_hidden_groups {self.num_hidden_groups} is more than num_hidden_layers "
                f"{self.num_hidden_layers}; give fewer groups"
            )
        if (layers := self.num_hidden_layers * self.inner_group_num) > MOST_LAYERS:
            raise ValueError(f"config: at most {MOST_LAYERS} layers, not {layers}")
        super().__post_init__()

    @property
    def architecture(self) -> Architecture:
        rounds, inner = self.num_hidden_layers, self.inner_group_num
        per_group = rounds / self.num_hidden_groups  # may be a fraction
        blocks = [int(i / per_group) * inner + j for i in range(rounds) for j in range(inner)]
        head = self.classifier_dropout_prob
        return dataclasses.replace(
            super().architecture, L=len(blocks), E=self.embedding_size, shared=tuple(blocks),
            drops_ffn_output=False, classifier_dropout=head, choice_dropout=head,
            token_dropout=head,
        )  # fmt: skip

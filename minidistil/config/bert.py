"""BERT: token types, dropout after attention's output, a tanh pooler."""

from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.base import Architecture, Config


@dataclass(frozen=True)
class BertConfig(Config):
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
    fixed = MappingProxyType(
        {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.type_vocab_size < 1:
            raise ValueError(
                f"config: type_vocab_size must be at least 1, not {self.type_vocab_size}"
            )

    @property
    def architecture(self):
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

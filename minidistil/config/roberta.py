"""RoBERTa and DistilRoBERTa: BERT with positions counted from the padding id, one token type."""

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.bert import BertConfig


@dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """RoBERTa's config.json; the defaults are those of roberta-base (Liu et al., 2019).

    DistilRoBERTa is the same with num_hidden_layers=6.
    """

    vocab_size: int = 50265
    max_position_embeddings: int = 514  # 512 for tokens, behind those of the ids up to padding's
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    model_type = "roberta"
    unsaid = MappingProxyType(
        {"max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    )

    @property
    def architecture(self):
        return dataclasses.replace(
            super().architecture, choice_dropout=self.hidden_dropout_prob,
            transform_activation="gelu", padding_position=self.pad_token_id,
        )  # fmt: skip

"""An encoder–decoder out of one pretrained model, or of two.

Embeddings, self attention, feed-forward and the masked-LM head are what a pretrained BERT has
already; only cross attention is new. What predicted a masked word learns to predict the next.
Source: `from_encoder_decoder_pretrained` of Hugging Face's EncoderDecoderModel; Rothe et al.,
"Leveraging pre-trained checkpoints for sequence generation tasks", 2020.
"""

import dataclasses

from minidistil.config import BertConfig, BertDecoderConfig, DistilBertConfig, EncoderDecoderConfig
from minidistil.model.encoder_decoder import EncoderDecoder
from minidistil.model.layout import first_values, layout

FAMILIES = (BertConfig, DistilBertConfig)  # RoBERTa's positions and ALBERT's layers differ
TASK = "text2text-generation"


def encoder_decoder_from(encoder, decoder=None, *, start, eos, decoder_layers=None, seed=0):
    """An EncoderDecoder that starts as a pretrained model, or as two.

    encoder: a BERT or DistilBERT, with whatever head; decoder: another one, by default the same.
    start, eos: the ids that a target begins and ends with, [CLS] and [SEP]. decoder_layers: which
    of the decoder's layers are taken, by default all. What the pretrained model lacks (cross
    attention; without a masked-LM head, the head) starts anew from `seed`, as does the projection
    where the widths differ.
    Raises ValueError for another family, or a layer that is not there.
    """
    decoder = decoder or encoder
    for model in (encoder, decoder):
        if not isinstance(model.config, FAMILIES):
            raise ValueError(
                f"both halves start as BERT or DistilBERT, not {model.config.model_type}"
            )
    depth = decoder.config.architecture.L
    layers = tuple(range(depth)) if decoder_layers is None else tuple(decoder_layers)
    if not layers or any(not 0 <= i < depth for i in layers):
        raise ValueError(
            f"decoder_layers must name some of layers 0 to {depth - 1}, not {list(layers)}"
        )
    config = _config(encoder.config, decoder.config, len(layers), start, eos)
    wanted, _ = layout(config, TASK)
    given = {f"encoder.{c}": x for c, x in encoder.named_by_role().items()}
    for c, x in decoder.named_by_role().items():
        first, _, rest = c.partition(".")
        if first != "layer":
            given[f"decoder.{c}"] = x
            continue
        i, _, role = rest.partition(".")
        for j, chosen in enumerate(layers):
            if chosen == int(i):
                given[f"decoder.layer.{j}.{role}"] = x
    params = first_values(config, wanted, seed)
    for name in params:
        if name in given and given[name].shape == params[name].shape:
            params[name] = given[name]
    return EncoderDecoder(config, TASK, params, encoder.ops)


def _config(encoder, decoder, depth, start, eos):
    """The config of both; whatever the decoder started as, it is a BERT of that shape."""
    a = decoder.architecture
    inner = BertDecoderConfig(
        vocab_size=a.V, hidden_size=a.C, num_hidden_layers=depth, num_attention_heads=a.H,
        intermediate_size=a.F, hidden_act=a.activation, hidden_dropout_prob=a.dropout,
        attention_probs_dropout_prob=a.attention_dropout, max_position_embeddings=a.P,
        type_vocab_size=a.types or 1, layer_norm_eps=a.eps, pad_token_id=decoder.pad_token_id,
        initializer_range=decoder.initializer_range,
    )  # fmt: skip
    return EncoderDecoderConfig(
        encoder=dataclasses.replace(encoder, architectures=None), decoder=inner,
        decoder_start_token_id=start, eos_token_id=eos, pad_token_id=decoder.pad_token_id,
    )  # fmt: skip

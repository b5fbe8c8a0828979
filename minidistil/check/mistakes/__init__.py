"""The known mistakes, one file per topic. Importing a file adds its mistakes to the catalogue."""

from minidistil.check.mistakes import (  # noqa: F401  (the import fills the catalogue)
    in_activation,
    in_attention,
    in_block,
    in_causal_attention,
    in_decoder,
    in_embedding,
    in_head,
    in_images,
    in_loss,
    in_norm,
    in_objectives,
    in_optimizer,
    in_packed_attention,
    in_pairs,
    in_sentences,
    in_token_loss,
)
from minidistil.check.mistakes.registry import CATALOGUE


def mistakes_of(*ops):
    """The catalogue's entries for some ops, in its order."""
    return [m for m in CATALOGUE if m.op in ops]

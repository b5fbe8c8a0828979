"""minidistil: DistilBERT and knowledge distillation, every layer and every gradient by hand.

Start reading at `ops/layernorm.py`, then `model/encoder.py`, then `distill/step.py`.
"""

from minidistil.config import BertConfig, DistilBertConfig
from minidistil.model.model import Model
from minidistil.model.pretrained import from_config, from_pretrained
from minidistil.ops import backend

__all__ = ["BertConfig", "DistilBertConfig", "Model", "backend", "from_config", "from_pretrained"]
__version__ = "0.1.0"

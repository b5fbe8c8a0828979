"""minidistil: DistilBERT and knowledge distillation, every layer and every gradient by hand.

Start reading at `ops/layernorm.py`.
"""

from minidistil.ops import backend

__all__ = ["backend"]
__version__ = "0.1.0"

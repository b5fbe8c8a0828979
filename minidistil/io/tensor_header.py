"""The header of a safetensors file.

    8 bytes: n, little-endian | n bytes of JSON, padded with spaces | the values

Its "__metadata__" are texts by name, which the library writes in another order each time.
"""

import json
from typing import IO


def sort_metadata(file: IO[bytes]) -> None:
    """Order the metadata by name, in place, so that equal contents are equal bytes."""
    n = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(n))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    file.seek(8)
    file.write(text.ljust(n))

"""Text generation: decoding steps, the KV cache, and the choice of each next token."""

"""What translation and summarization share: pairs of texts and an encoder–decoder."""

"""BERT and DistilBERT as pure functions over a dict of parameters; `Model` is their door."""

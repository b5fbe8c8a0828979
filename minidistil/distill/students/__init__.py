"""Students made from some of their teacher's layers."""

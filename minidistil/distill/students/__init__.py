"""Students initialised from some of their teacher's layers, by family."""

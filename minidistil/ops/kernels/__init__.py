"""The parts that several ops are made of: matrix products, attention, number formats."""

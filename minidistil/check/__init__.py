"""Other people's implementations, fed with our weights: what numbers and speeds are compared with.

Nothing here is imported unless a comparison is asked for, and each framework only by the function
that runs it.
"""

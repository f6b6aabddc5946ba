"""Scripts that ms-swift's own Python runs, in its own environment.

Each stands alone: standard library and what ms-swift brings, nothing of ours.
"""

"""The training child of the ms-swift backend."""

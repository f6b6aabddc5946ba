"""What a Python that trains does when it starts, before any library is imported.

Each module stands alone: standard library only. ms-swift's Python gets this
folder on PYTHONPATH (sitecustomize.py); our own child imports it.
"""

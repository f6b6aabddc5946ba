"""Runs when ms-swift's Python starts, in every process of it: this folder is on its PYTHONPATH.

Prepares it for a torchvision without its compiled extension, then runs the
sitecustomize that it hides, if there is one.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

HERE = os.path.dirname(os.path.abspath(__file__))


def run_the_hidden_one() -> None:
    """The sitecustomize further on in the path, as if this one were not there."""
    found = PathFinder.find_spec(__name__, [one for one in sys.path if one != HERE])
    if found is None or found.loader is None:
        return
    module = module_from_spec(found)
    sys.modules[__name__] = module
    found.loader.exec_module(module)


if __name__ == "sitecustomize":
    import_module("torchvision_operators").install()
    sys.path[:] = [one for one in sys.path if one != HERE]
    run_the_hidden_one()

"""The training process.

Whoever imports any of it can import torchvision afterwards, whatever build it is of.
"""

from trainer_svc.child.startup import torchvision_operators

torchvision_operators.install()

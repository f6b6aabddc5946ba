"""A stand-in for ms-swift: the few names that our scripts import, and two commands.

It trains nothing. What it prints, logs and saves, and in which order, is what
ms-swift 4.6 does; what goes wrong is in the environment variable STAND_IN.
"""

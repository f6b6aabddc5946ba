"""The real trainer service, with the scripted child in its table of backends."""

import sys
from pathlib import Path

from svckit.spec import Backend
from trainer_svc.__main__ import main

CHILD = Path(__file__).with_name("scripted_child.py")

if __name__ == "__main__":
    main(commands={Backend.QLORA: lambda _spec, run: [sys.executable, str(CHILD), run]})

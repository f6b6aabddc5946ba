"""The real trainer service, whose jobs run the scripted child instead of QLoRA.

`python -m tests.support.scripted_trainer FLAGS...`: started as any service of
a stack. What the child does is in the job's system prompt.
"""

from __future__ import annotations

import sys
from pathlib import Path

from svckit.spec import Backend
from trainer_svc.__main__ import main

CHILD = Path(__file__).parents[1] / "integration/trainer/scripted_child.py"

if __name__ == "__main__":
    main(commands={Backend.QLORA: lambda _spec, run: [sys.executable, str(CHILD), run]})

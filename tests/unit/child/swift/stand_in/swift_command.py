"""As ms-swift's `swift`: runs the script that trains, and passes on how it ended."""

import subprocess
import sys
from pathlib import Path

import swift.cli  # type: ignore[import-not-found]

if __name__ == "__main__":
    command, *words = sys.argv[1:]
    script = Path(swift.cli.__path__[0], f"{command}.py")
    print(f"run sh: `{script} {' '.join(words)}`", flush=True)
    result = subprocess.run([sys.executable, str(script), *words], check=False)
    if result.returncode != 0:
        sys.exit(result.returncode)

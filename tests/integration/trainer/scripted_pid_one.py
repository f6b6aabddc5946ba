"""The real PID 1 of a trainer's container, above the real service with the scripted child."""

import os
import sys
from pathlib import Path

from trainer_svc.pid_one import PidOne, renew_boot_id

if __name__ == "__main__":
    service = Path(__file__).with_name("scripted_service.py")
    environment = dict(os.environ)
    renew_boot_id(environment)
    sys.exit(PidOne([sys.executable, str(service), *sys.argv[1:]], environment).run())

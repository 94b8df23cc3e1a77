"""The only code that knows wandb: a program that logs what it reads from its standard input, and says what it logged.

It is a process of its own (`mirror.py` starts it), so that nothing that wandb hangs or dies of reaches a training.
What wandb would collect by itself is off: no host, user, paths, command line, git remote, packages, code, console or
load of the machine leaves it, and wandb's own error reports are not sent.
"""

import json
import os
import sys
from typing import Any

QUIET: dict[str, Any] = {
    "console": "off",
    "silent": True,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "host": "",
    "program": "",
    "init_timeout": 15,
    "login_timeout": 1,
}
MISSING = 3
"""Exit status where wandb is not installed."""


def main() -> int:
    """Log each record of {"folder", "mode", "project", "records"}; one line with its id for each that is whole."""
    given = json.load(sys.stdin)
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ.setdefault("WANDB_CACHE_DIR", f"{given['folder']}/wandb/cache")  # logs of its own, else at home
    try:
        import wandb
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        return MISSING
    settings = wandb.Settings(**QUIET, root_dir=given["folder"], mode=given["mode"])
    for record in given["records"]:
        about = {name: record[name] for name in ("id", "name", "group", "job_type", "tags", "config")}
        # A run of this id that is there already is gone on with: what it has is not logged twice.
        resume: Any = "allow" if given["mode"] == "online" else None
        with wandb.init(**about, project=given["project"], resume=resume, settings=settings) as run:
            for step, values in record["history"]:
                run.log(values, step=step)
            run.summary.update(record["summary"])
        print(record["id"], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

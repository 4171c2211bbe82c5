"""The exceptions that an exception followed, as Python's tracebacks and the trainer's last words tell of them.

https://docs.python.org/3/library/exceptions.html#exception-context
"""

import re

from finetune_api.reports import CAUSED_BY, WHILE_HANDLING

RANK = re.compile(r"^\[rank\d+\]: ?", re.MULTILINE)
"""What PyTorch puts before each line of a traceback."""
LINK = re.compile(
    r"^(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):$",
    re.MULTILINE,
)
TOLD = re.compile(rf"^(?:{CAUSED_BY}|{WHILE_HANDLING}): (.*)$", re.MULTILINE)


def earlier_exceptions(text: str) -> list[str]:
    """Each as its name and message, the first one that was raised first; of a cut text, those that are left."""
    *before, last = LINK.split(RANK.sub("", text))
    return [*filter(None, map(_raised, before)), *reversed(TOLD.findall(last))]


def _raised(traceback: str) -> str:
    """What follows the frames: the exception and its message, of one line or several."""
    lines = traceback.strip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith((" ", "Traceback"))]
    return "\n".join(lines[frames[-1] + 1 :] if frames else lines[-1:])

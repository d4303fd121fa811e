"""Many submissions of one run at the same moment, each a process.

    python -m tests.orchestrate.submissions RUN 50

Prints a list of [process, None or how it was refused]. The one that is not refused holds the run until all
have answered.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

from mae_dist.orchestrate.store import DriverLock, RunLockedError


def submit(run: str, begin: int, answer: int, end: int) -> None:
    """One submission; `begin` and `end` are pipes that are closed at the other side when it is time."""
    lock = DriverLock(run)
    os.read(begin, 1)
    try:
        with lock:
            os.write(answer, json.dumps([os.getpid(), None]).encode())
            os.read(end, 1)
    except RunLockedError as error:
        os.write(answer, json.dumps([os.getpid(), str(error)]).encode())


def submit_at_once(run: str, number: int) -> list[tuple[int, str | None]]:
    """What each of so many processes answers."""
    begin, end = os.pipe(), os.pipe()
    answers = []
    for _ in range(number):
        answer = os.pipe()
        if os.fork() == 0:
            try:
                os.close(begin[1])
                os.close(end[1])
                submit(run, begin[0], answer[1], end[0])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(answer[1])
        answers.append(answer[0])
    os.close(begin[1])
    given = [os.read(answer, 1 << 16) for answer in answers]
    os.close(end[1])
    for _ in range(number):
        os.wait()
    return [tuple(json.loads(text)) for text in given]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(submit_at_once(sys.argv[1], int(sys.argv[2]))))

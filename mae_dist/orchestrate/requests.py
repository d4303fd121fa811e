"""What others ask of the driver of a run: by SIGTERM, or in files of RUN/requests that it reads and deletes.

cancel-<uuid>.json     {"step": a name, or null for the whole run, "by": "user@host"}
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from mae_dist import storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Somebody wants a step to end, or the whole run."""

    step: str | None
    by: str


def take_requests(run_uri: str) -> list[Cancellation]:
    """The requests that have come, which are deleted; what cannot be understood is warned of."""
    folder = storage.join(run_uri, "requests")
    found = []
    for name in storage.list_dir(folder):
        uri = storage.join(folder, name)
        try:
            content = storage.read_json(uri)
            asked = Cancellation(content["step"], str(content["by"]))
            if not name.startswith("cancel-") or not isinstance(asked.step, str | None):
                raise ValueError("its step is neither a name nor null, or it is no cancellation")
            found.append(asked)
        except storage.StorageNotFoundError:
            continue
        except (storage.StorageError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: is no request that this driver knows: %s", uri, error)
        storage.delete(uri)
    return found


@contextmanager
def sigterm_noted() -> Iterator[threading.Event]:
    """Set by the first SIGTERM meanwhile; a second one does what the first would have done."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # others cannot listen to signals
        yield asked
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        asked.set()

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)

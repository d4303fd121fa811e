"""The right to write in a run directory: drivers are numbered, and nobody but the latest publishes anything.

    RUN/drivers/
        000001.json          driver 1: who it is (see orchestrate/store.py); numbers are given once
        000001-a1b2….json    announcement: what driver 1, or a worker of it, is about to publish
        000002.json          driver 2 has taken over
        000002.settled       driver 2 has published what earlier drivers had announced

Each side leaves its own record before it looks for the other's, so that one of them always finds the other,
whatever happens between any two of these requests, and however long a process stands still. It needs a store
that shows at once what has been written, as local disks and S3 do, and no clock.

    publish, for driver 1                       take over, as driver 2
    1  announce it                              1  create the next number, which only one can
    2  is there a later number? Then stop       2  publish what was announced
    3  publish it, withdraw the announcement    3  read what is there, and go on from it

If driver 1 finds no later number, driver 2 comes after its announcement and finds that: what is published in
the last step was published before driver 2 read anything, and repeating it changes nothing.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from dataclasses import dataclass

from mae_dist import storage


class FencedOffError(RuntimeError):
    """Somebody else has taken over; what is done now must not be published."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Driver number `token` of the run whose folder `drivers` is `uri`.

    Plain data, so that it can be handed to the processes that write on behalf of the driver.
    """

    uri: str
    token: int

    @property
    def file(self) -> str:
        """Where the driver of this number says who it is."""
        return storage.join(self.uri, f"{self.token:06d}.json")

    def check(self) -> None:
        """Raise FencedOffError if there is a later driver; one may come at any time after."""
        latest = latest_token(self.uri)
        if latest > self.token:
            raise FencedOffError(
                f"{self.uri}: driver {latest} has taken over from driver {self.token}, which must not write "
                "any more"
            )

    def create(self, uri: str, data: bytes) -> bool:
        """Create a text file of this run unless there is one (False then), while this driver is the latest.

        FencedOffError: it is not. The file exists then only if the later driver has found the announcement,
        and knows of it.
        """
        return self._publish(uri, data, replace=False)

    def write(self, uri: str, data: bytes) -> None:
        """The same, but a file that is there is replaced."""
        self._publish(uri, data, replace=True)

    def settle(self) -> None:
        """Publish what the drivers before this one had announced; to be called before the run is read.

        What was announced after that is left alone, and so is what was announced before an earlier driver had
        done this: neither of them was published.
        """
        names = storage.list_dir(self.uri)
        settled = {name: int(found[1]) for name in names if (found := _SETTLED.fullmatch(name))}
        since = max(settled.values(), default=0)
        for name in names:
            found = _ANNOUNCEMENT.fullmatch(name)
            if found is None or int(found[1]) >= self.token:
                continue
            announcement = storage.join(self.uri, name)
            if int(found[1]) >= since:
                with contextlib.suppress(storage.StorageNotFoundError):  # withdrawn meanwhile
                    self._carry_out(announcement)
            storage.delete(announcement)
        storage.write_bytes(storage.join(self.uri, f"{self.token:06d}.settled"), b"")
        for name in settled:
            storage.delete(storage.join(self.uri, name))

    def _publish(self, uri: str, data: bytes, *, replace: bool) -> bool:
        # Relative, because a run directory may be moved between two drivers.
        below = uri.removeprefix(f"{self._run}/")
        assert below != uri, f"{uri} is not in the run of {self.uri}"
        announcement = storage.join(self.uri, f"{self.token:06d}-{uuid.uuid4().hex}.json")
        storage.write_json(announcement, {"file": below, "text": data.decode(), "replace": replace})
        try:
            self.check()
            return _put(uri, data, replace=replace)
        finally:
            # One that cannot be withdrawn is repeated by the next driver, which changes nothing.
            with contextlib.suppress(storage.StorageError):
                storage.delete(announcement)

    def _carry_out(self, announcement: str) -> None:
        found = storage.read_json(announcement)
        uri = storage.join(self._run, found["file"])
        # What it was meant for may be gone: a checkpoint of a group of workers that died, passed by another.
        if storage.exists(uri.rpartition("/")[0]):
            _put(uri, found["text"].encode(), replace=found["replace"])

    @property
    def _run(self) -> str:
        return self.uri.rpartition("/")[0]


def latest_token(uri: str) -> int:
    """The highest number given so far in a folder `drivers`, 0 if none."""
    names = (_NUMBER.fullmatch(name) for name in storage.list_dir(uri))
    return max((int(name[1]) for name in names if name), default=0)


def _put(uri: str, data: bytes, *, replace: bool) -> bool:
    if not replace:
        return storage.create_exclusive(uri, data)
    storage.write_bytes(uri, data)
    return True


_NUMBER = re.compile(r"(\d+)\.json")
_ANNOUNCEMENT = re.compile(r"(\d+)-[0-9a-f]+\.json")
_SETTLED = re.compile(r"(\d+)\.settled")

"""The right to write below a place, as a number that only grows: who holds the highest one may publish."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mae_dist import storage


class FencedOffError(RuntimeError):
    """Somebody else has taken over; what is done now must not be published."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Token `token` of the folder `uri`, which holds one file per token that was ever given.

    Plain data, so that it can be handed to the processes that write on behalf of its holder.
    """

    uri: str
    token: int

    @property
    def file(self) -> str:
        """The file of this token."""
        return storage.join(self.uri, f"{self.token:06d}.json")

    def check(self) -> None:
        """Raise FencedOffError if a later token has been given."""
        latest = latest_token(self.uri)
        if latest > self.token:
            raise FencedOffError(
                f"{self.uri}: driver {latest} has taken over from driver {self.token}, which must not write "
                "any more"
            )


def latest_token(uri: str) -> int:
    """The highest token given so far, 0 if none."""
    names = (re.fullmatch(r"(\d+)\.json", name) for name in storage.list_dir(uri))
    return max((int(name[1]) for name in names if name), default=0)

"""Mistakes about crops and colours.

See `contradictions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.schema import AugmentConfig

READS = ("augment.scale", "augment.side", "augment.color_jitter")


def augment_settings(augment: AugmentConfig) -> Iterator[tuple[str, str]]:
    """Parts of a source, and shifts without a sign."""
    for name, what in (("scale", "areas"), ("side", "sides")):
        smaller, larger = getattr(augment, name)
        if not 0 < smaller <= larger <= 1:
            yield (
                f"augment.{name}",
                f"must be two {what} with 0 < smaller <= larger <= 1, got {[smaller, larger]}",
            )
    if augment.color_jitter is not None and min(augment.color_jitter) < 0:
        yield "augment.color_jitter", f"must be at least 0, or null, got {list(augment.color_jitter)}"

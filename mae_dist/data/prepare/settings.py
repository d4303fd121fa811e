"""How a data set is prepared, and the manifest that keeps one destination from being made in two ways."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from mae_dist import __version__, storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data.catalog import Catalog

FORMAT = 1
MANIFEST = "prepare.json"

_SHARD_SIZES = {"image": 4096, "video": 128}
_QUALITIES = {"image": 90, "video": 20}
_BEST_AND_WORST = {"image": (100, 1), "video": (1, 51)}
_QUALITY_NAMES = {"image": "JPEG's quality", "video": "x264's constant rate factor"}
_SECONDS = {"image": 10.0, "video": 600.0}
_KEYFRAME_EVERY = 12
_PACKAGES = ("av", "pillow", "pyarrow")


class PrepareError(ValueError):
    """What was asked for cannot be done; the message says why and what would be right."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything beside the source that decides what is written."""

    media: str
    """ "image" or "video"."""
    short_side: int
    """Pixels; what is smaller keeps its size."""
    quality: int
    """Images: of JPEG, 100 best. Videos: x264's constant rate factor, 1 best."""
    keyframe_every: int | None
    """Frames from one keyframe to the next at most; None for images."""
    shard_size: int
    """Samples per shard at most."""
    seed: int
    """Of the order of the samples."""
    seconds: float
    """CPU time that one sample may take."""

    @classmethod
    def of(
        cls,
        source: Catalog,
        *,
        short_side: int = 256,
        quality: int | None = None,
        keyframe_every: int | None = None,
        shard_size: int | None = None,
        seed: int = 0,
        seconds: float | None = None,
    ) -> Settings:
        """Settings for this source, None meaning what is usual for its medium. Raises PrepareError."""
        media = source.table["media"].unique().to_pylist()
        if len(media) > 1:
            raise PrepareError(
                f"the source holds {' and '.join(media)} samples; prepare each kind on its own"
            )
        [medium] = media
        if medium == "image" and keyframe_every is not None:
            raise PrepareError(f"keyframes are for videos, but {keyframe_every} was given for images")
        if medium == "video" and keyframe_every is None:
            keyframe_every = _KEYFRAME_EVERY
        settings = cls(
            media=medium,
            short_side=short_side,
            quality=_QUALITIES[medium] if quality is None else quality,
            keyframe_every=keyframe_every,
            shard_size=_SHARD_SIZES[medium] if shard_size is None else shard_size,
            seed=seed,
            seconds=_SECONDS[medium] if seconds is None else seconds,
        )
        settings._check()
        return settings

    @property
    def limits(self) -> DecodeLimits:
        """What recoding one sample may cost."""
        return DecodeLimits(seconds=self.seconds)

    def _check(self) -> None:
        best, worst = _BEST_AND_WORST[self.media]
        problems = []
        if self.short_side < 2 or self.short_side % 2:
            problems.append(f"the short side must be even and at least 2 pixels, got {self.short_side}")
        if not min(best, worst) <= self.quality <= max(best, worst):
            name = _QUALITY_NAMES[self.media]
            problems.append(f"the quality is {name}, {worst} (worst) to {best} (best), got {self.quality}")
        if self.keyframe_every is not None and self.keyframe_every < 1:
            problems.append(f"a keyframe comes every 1 or more frames, got {self.keyframe_every}")
        if self.shard_size < 1:
            problems.append(f"a shard holds 1 or more samples, got {self.shard_size}")
        if self.seed < 0:
            problems.append(f"the seed is 0 or more, got {self.seed}")
        if not self.seconds > 0:
            problems.append(f"a sample needs more than 0 seconds, got {self.seconds:g}")
        if problems:
            raise PrepareError("; ".join(problems))


def claim(destination: str, source: Catalog, source_uri: str, settings: Settings) -> None:
    """Make the destination this preparation's, or go on with what it is already.

    Raises PrepareError if something else lies there, or it was begun from other samples or in another way.
    """
    uri = storage.join(destination, MANIFEST)
    wanted = _manifest(source, source_uri, settings)
    names = storage.list_dir(destination)
    if MANIFEST not in names:
        if names:
            raise PrepareError(
                f"{destination}: is not empty ({', '.join(names[:3])}) and holds no {MANIFEST}; "
                f"give a new folder, or one that was begun by this command"
            )
        # Of two drivers that start at once, one decides; if they agree, both may work.
        storage.create_exclusive(uri, (json.dumps(wanted, indent=2, ensure_ascii=False) + "\n").encode())
    found = storage.read_json(uri)
    differences = _differences(found if isinstance(found, dict) else {}, wanted)
    if differences:
        raise PrepareError(
            f"{destination}: was begun in another way: {'; '.join(differences)}. Give another destination, "
            f"or what {MANIFEST} there says"
        )


def _manifest(source: Catalog, source_uri: str, settings: Settings) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "source": {"uri": source_uri, "samples": source.num_samples, "digest": source.digest},
        "settings": asdict(settings),
        "made_with": {"mae_dist": __version__} | {name: version(name) for name in _PACKAGES},
    }


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What decides the result and is not the same."""
    facts = [
        ("format", found.get("format"), wanted["format"]),
        *(
            (f"source {name}", found.get("source", {}).get(name), wanted["source"][name])
            for name in ("samples", "digest")
        ),
        *(
            (name.replace("_", " "), found.get("settings", {}).get(name), value)
            for name, value in wanted["settings"].items()
        ),
    ]
    if found.get("format") != wanted["format"]:
        facts = facts[:1]  # what another version wrote down may mean something else
    return [f"{name} {_short(then)}, now {_short(now)}" for name, then, now in facts if then != now]


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)

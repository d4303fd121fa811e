"""An audit on one page, as plain data: what the samples are, and what is wrong with which of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mae_dist.data.audit.findings import sound_ones
from mae_dist.data.audit.repeats import Leak, conflicts, duplicates
from mae_dist.data.catalog import Catalog
from mae_dist.data.places import first_at_place
from mae_dist.data.readers.official import difference

FORMAT = 1
PERCENTILES = {"least": 0, "p5": 5, "median": 50, "p95": 95, "most": 100}

Summary = dict[str, Any]


def summarise(
    catalog: Catalog,
    findings: pa.Table,
    *,
    uri: str,
    decoded: bool,
    min_frames: int,
    others: Mapping[str, tuple[Catalog, Leak]],
) -> Summary:
    """Everything as JSON has it; a sample is named by its number, key and URI.

    A video of fewer than `min_frames` frames is short. `others`: other catalogs by their URI, and what of
    them is in this one too. Problems are counted in samples; bytes, codecs and sizes in files or members of
    them, of which each counts once however many samples (keyframes) it has.
    """
    sound, corrupt = sound_ones(findings), findings.filter(pc.field("reason").is_valid())
    sound = sound.append_column("media", catalog.table["media"].take(sound["sample"]).cast(pa.string()))
    short = sound.filter((pc.field("media") == "video") & (pc.field("frames") < min_frames))
    places = np.unique(first_at_place(catalog))
    once = sound.filter(pa.array(np.isin(sound["sample"].to_numpy(), places)))
    videos, images = (once.filter(pc.field("media") == medium) for medium in ("video", "image"))
    groups, labels = duplicates(catalog, findings), catalog.table["label"].to_numpy()
    at_odds = conflicts(groups, labels)
    broken = _named(catalog, corrupt["sample"].to_numpy(), reason=corrupt["reason"].to_pylist())
    leaked = {sample for _, leak in others.values() for sample in leak.pairs[:, 0].tolist()}
    return {
        "format": FORMAT,
        "catalog": {
            "uri": uri,
            "digest": catalog.digest,
            "num_samples": catalog.num_samples,
            "num_classes": catalog.num_classes,
            "origin": None if catalog.origin is None else asdict(catalog.origin),
            "difference": difference(catalog.origin, catalog.num_samples),
        },
        "decoded": decoded,
        "min_frames": min_frames,
        "total_bytes": int(findings["bytes"].to_numpy()[places].clip(0).sum()),
        "videos": _about(videos, has_time=True),
        "images": _about(images, has_time=False),
        "num_problems": {
            "corrupt": corrupt.num_rows,
            "short": short.num_rows,
            "duplicates": sum(len(group) - 1 for group in groups),
            "conflicts": sum(len(group) for group in at_odds),
            "leaks": len(leaked),
        },
        "reasons": _reasons(broken),
        "corrupt": broken,
        "short": _named(catalog, short["sample"].to_numpy(), frames=short["frames"].to_pylist()),
        "duplicates": [_named(catalog, group, label=labels[group].tolist()) for group in groups],
        "conflicts": [_named(catalog, group, label=labels[group].tolist()) for group in at_odds],
        "leaks": [
            {
                "catalog": other_uri,
                "digest": other.digest,
                "unread": leak.unread,
                "samples": _named(catalog, leak.pairs[:, 0], there=_named(other, leak.pairs[:, 1])),
            }
            for other_uri, (other, leak) in others.items()
        ],
    }


def per_sample(catalog: Catalog, findings: pa.Table) -> pa.Table:
    """FINDINGS beside key, uri, media and label, and the first sample with the same bytes (null: itself)."""
    first = np.arange(catalog.num_samples)
    for group in duplicates(catalog, findings):
        first[group[1:]] = group[0]
    table = findings
    for place, name in enumerate(("key", "uri", "media", "label"), start=1):
        table = table.add_column(place, name, catalog.table[name])
    sha256 = [None if not digest else digest.hex() for digest in findings["sha256"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("sha256"), "sha256", pa.array(sha256, pa.string()))
    is_itself = first == np.arange(catalog.num_samples)
    return table.append_column("duplicate_of", pa.array(first, pa.int64(), mask=is_itself))


def _named(catalog: Catalog, samples: np.ndarray, **more: Sequence[Any]) -> list[dict[str, Any]]:
    """For each of these samples its number, key and URI, and its entry of each of `more`."""
    taken = catalog.table.select(["key", "uri"]).take(pa.array(samples))
    columns = {"sample": samples.tolist()} | {name: taken[name].to_pylist() for name in ("key", "uri")} | more
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _about(sound: pa.Table, *, has_time: bool) -> dict[str, Any]:
    """How many samples have which codec, and how their sizes are spread."""
    values = {name: sound[name].to_numpy() for name in ("bytes", "width", "height")}
    about: dict[str, Any] = {
        "num_samples": sound.num_rows,
        "codecs": dict(Counter(sorted(sound["codec"].to_pylist())).most_common()),
    }
    if has_time:
        frames, fps = sound["frames"].to_numpy(), sound["fps"].to_numpy()
        seconds = frames / fps
        values |= {"frames": frames, "fps": fps, "seconds": seconds}
        about["total_seconds"] = float(np.nansum(seconds))
        about["num_untimed"] = sound["is_timed"].to_pylist().count(False)
    return about | {"spread": {name: _spread(its) for name, its in values.items()}}


def _spread(values: np.ndarray) -> dict[str, float] | None:
    """PERCENTILES of what is known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    return dict(zip(PERCENTILES, np.percentile(known, [*PERCENTILES.values()]).tolist(), strict=True))


def _reasons(corrupt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Reasons, those that differ in numbers alone as one, by how many samples have them; with an example."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for sample in corrupt:
        found.setdefault(re.sub(r"\d([\d,.]*\d)?", "N", sample["reason"]), []).append(sample)
    by_count = sorted(found.values(), key=len, reverse=True)
    return [{"num_samples": len(samples), "example": samples[0]} for samples in by_count]

"""Small sources to prepare, and preparing them without Ray and without a process for each shard."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.prepare import Outcome, Settings, prepare
from mae_dist.data.prepare.division import Part
from mae_dist.data.prepare.part import write_part
from mae_dist.data.prepare.recoding import Recoded, RecodeSpec, _recode_into, recode
from mae_dist.data.readers import build_catalog
from mae_dist.data.views import Request
from tests.faults.codecs import misbehave


def picture(value: int, *, height: int = 40, width: int = 56, format: str = "JPEG") -> bytes:
    """A soft image; another `value` gives another one."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 3 * value) / 9), np.sin((y - value) / 7), np.cos((x + y + value) / 11)]
    pixels = np.stack([np.rint(127.5 + 90 * wave) for wave in waves], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def write_images(folder: str, num_images: int) -> Catalog:
    """Images in two classes, every fifth too small to be changed at a short side of 24."""
    for number in range(num_images):
        data = picture(number, height=20, width=20) if number % 5 == 0 else picture(number)
        name = f"{'odd' if number % 2 else 'even'}/{number:04d}.jpg"
        storage.write_bytes(storage.join(folder, name), data)
    return build_catalog(folder)


def write_shard(path: Path, num_rows: int, *, rows_per_group: int) -> Catalog:
    """A Parquet shard of images with labels 0, 1, 0, 1, ..."""
    table = pa.table(
        {
            "image": [picture(number) for number in range(num_rows)],
            "label": [number % 2 for number in range(num_rows)],
        }
    )
    pq.write_table(
        table.replace_schema_metadata({"classes": '["even", "odd"]'}), path, row_group_size=rows_per_group
    )
    return build_catalog(str(path))


def settings_for(source: Catalog, **changes) -> Settings:
    """Four samples to a shard and a short side of 24, unless said otherwise."""
    return Settings.of(source, **{"short_side": 24, "shard_size": 4} | changes)


def write_here(destination: str, settings: Settings, part: Part) -> int:
    """`make_part` in this process."""

    def recode_here(data: bytes) -> Recoded:
        return recode(data, settings)

    write_part(destination, settings, part, recode_here)
    return part.number


def prepare_here(source: Catalog, destination: str, settings: Settings | None = None, **changes) -> Outcome:
    """`prepare` in this process; changes of the settings, or arguments of `prepare`."""
    arguments = {
        name: changes.pop(name) for name in ("most_faults", "show", "make", "spread") if name in changes
    }
    made = settings_for(source, **changes) if settings is None else replace(settings, **changes)
    return prepare(source, "the source", destination, made, **{"spread": map, "make": write_here} | arguments)


def recode_badly(request: Request, spec: RecodeSpec, facts: np.ndarray) -> None:
    """What the child does, or a mishap where the sample is the name of one."""
    if request.data in (b"crash", b"burn"):
        misbehave(request, cast(Any, spec), facts)
    else:
        _recode_into(request, spec, facts)


def contents(folder: str) -> dict[str, bytes]:
    """Every file below a folder, by its name there."""
    return {
        info.uri.removeprefix(folder): storage.read_bytes(info.uri) for info in storage.walk_files(folder)
    }


def encoded(catalog: Catalog) -> dict[str, bytes]:
    """The bytes of every sample as training would read them, by key."""
    from mae_dist.config.limits import DecodeLimits
    from mae_dist.data.fetch import fetch

    rows = catalog.rows(np.arange(catalog.num_samples))
    found = {}
    for row, data in zip(rows, fetch(rows, DecodeLimits()), strict=True):
        assert isinstance(data, bytes), data
        found[row.key] = data
    return found

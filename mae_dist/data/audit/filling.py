"""A catalog with what its audit has found out, so that its samples are checked when they are read."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from mae_dist.data.catalog import Catalog, CatalogError


def filled(catalog: Catalog, findings: pa.Table, *, drop_corrupt: bool = False) -> Catalog:
    """The catalog with length, sha256, frames and fps of every sound sample.

    Its digest is another one, for it now stands for the bytes too, and so is the identity of a run; but
    samples have their numbers and a stream its order, crops and masks, which depend on numbers alone. A
    corrupt sample stays as it is listed, or with `drop_corrupt` goes, which gives those after it new numbers.
    Raises CatalogError if none is left.
    """
    is_sound = findings["reason"].is_null().to_numpy()
    table = catalog.table
    for name, source in [("length", "bytes"), ("sha256", "sha256"), ("frames", "frames"), ("fps", "fps")]:
        field = table.schema.field(name)
        found, listed = findings[source].to_pylist(), table[name].to_pylist()
        column = [new if sound else old for new, old, sound in zip(found, listed, is_sound, strict=True)]
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(column, field.type))
    if drop_corrupt:
        table = table.filter(pa.array(is_sound))
        if not table.num_rows:
            raise CatalogError(f"all {catalog.num_samples} samples are corrupt: nothing is left to list")
    return replace(catalog, table=table)

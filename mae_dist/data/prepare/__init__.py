"""A data set written once more so that it is read and decoded quickly: small pictures in shuffled shards.

source catalog -> parts (which samples become one shard, drawn by seed) -> one task per part:
    fetch -> recode in a process that can be killed -> pack -> shard, then the record of it
records -> catalog, samples left out -> comparison of before and after

DESTINATION/prepare.json        what of, and how; a second run must agree
            source.parquet      the catalog it is made of
            shards/part-...     images in Parquet, videos in tar
            parts/part-...      the records: a shard without one does not count
            catalog.parquet     what a run is given
            faults.jsonl        samples that were left out, and why
            comparison.json     bytes and decoding time before and after
"""

from mae_dist.data.prepare.comparison import Comparison, compare
from mae_dist.data.prepare.outcome import Outcome, TooManyFaultsError, prepare
from mae_dist.data.prepare.settings import PrepareError, Settings

__all__ = ["Comparison", "Outcome", "PrepareError", "Settings", "TooManyFaultsError", "compare", "prepare"]

"""A table of the MAE or VideoMAE paper: its runs one after the other, then the table with ours beside it.

    python jobs/study.py --list
    python jobs/study.py mae/decoder_depth                  # in small, on images that it draws
    ray job submit --working-dir . -- python jobs/study.py mae/decoder_depth --scale full \
        --data in1k=s3://bucket/in1k-train.parquet,s3://bucket/in1k-val.parquet --storage s3://bucket/runs

Check, print the runs and their cost, start nothing: --dry-run. Some rows alone: --value 1 --value 8.
Submitted again, the job does what is missing; submitted twice, two drivers share the runs between them.
"""

import sys

from mae_dist.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["study", *sys.argv[1:]]))

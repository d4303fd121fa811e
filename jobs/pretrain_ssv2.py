"""VideoMAE ViT-B on Something-Something V2 (800 epochs), then linear probe and fine-tuning, then the report.

8 GPUs as written. The clips come with the official lists; a catalog of each part is made once:

    mae-dist catalog build s3://bucket/ssv2 s3://bucket/ssv2-train.parquet --kind something_v2 --split train
    mae-dist catalog build s3://bucket/ssv2 s3://bucket/ssv2-val.parquet --kind something_v2 --split val
    ray job submit --working-dir . -- python jobs/pretrain_ssv2.py --storage s3://bucket/runs \
        --set data.catalog=s3://bucket/ssv2-train.parquet --set data.test_catalog=s3://bucket/ssv2-val.parquet

64 GPUs, the same global batch:

    ... --set resources.workers=64 --set train.micro_batch=16

The best published result has 2400 epochs: --set "train.length=2400 epochs". Nothing is mirrored, because left
and right are labels. Check and print the steps, start nothing: --dry-run. Submitted again, the job does what
is missing.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/ssv2"))

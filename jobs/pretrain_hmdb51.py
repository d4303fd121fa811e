"""VideoMAE ViT-B on HMDB51 alone (first split, 4800 epochs), then fine-tuning, then the report.

8 GPUs as written. A catalog of each part is made once, from the clips and the official lists:

    mae-dist catalog build s3://bucket/hmdb51 s3://bucket/hmdb-train1.parquet --kind hmdb51 --split train1
    mae-dist catalog build s3://bucket/hmdb51 s3://bucket/hmdb-test1.parquet --kind hmdb51 --split test1
    ray job submit --working-dir . -- python jobs/pretrain_hmdb51.py --storage s3://bucket/runs \
        --set data.catalog=s3://bucket/hmdb-train1.parquet --set data.test_catalog=s3://bucket/hmdb-test1.parquet

Weights pretrained on more videos do better: jobs/evaluate_checkpoint.py with --recipe pretrain/hmdb51.
Check and print the steps, start nothing: --dry-run. Submitted again, the job does what is missing.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/hmdb51"))

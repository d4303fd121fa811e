"""VideoMAE ViT-B on UCF101 alone (first split, 3200 epochs), then fine-tuning, then the report.

8 GPUs as written, about 30 hours by the authors' account. Nine thousand clips want a lower mask ratio (0.75)
and many epochs. A catalog of each part is made once, from the clips and the official lists:

    mae-dist catalog build s3://bucket/ucf101 s3://bucket/ucf-train1.parquet --kind ucf101 --split train1
    mae-dist catalog build s3://bucket/ucf101 s3://bucket/ucf-test1.parquet --kind ucf101 --split test1
    ray job submit --working-dir . -- python jobs/pretrain_ucf101.py --storage s3://bucket/runs \
        --set data.catalog=s3://bucket/ucf-train1.parquet --set data.test_catalog=s3://bucket/ucf-test1.parquet

Weights pretrained on more videos do better: jobs/evaluate_checkpoint.py with --recipe pretrain/ucf101.
Check and print the steps, start nothing: --dry-run. Submitted again, the job does what is missing.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/ucf101"))

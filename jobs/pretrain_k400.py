"""VideoMAE ViT-B on Kinetics-400 (16 frames, 800 epochs), then linear probe and fine-tuning, then the report.

8 GPUs as written. The clips are listed in a catalog, a CSV of "path label", or lie in class folders:

    ray job submit --working-dir . -- python jobs/pretrain_k400.py \
        --set data.catalog=s3://bucket/k400/train.csv --set data.test_catalog=s3://bucket/k400/val.csv \
        --storage s3://bucket/runs

64 GPUs, the same global batch:

    ... --set resources.workers=64 --set train.micro_batch=16

Pretraining alone, where nothing is labelled: --set evaluations={}. Check and print the steps, start nothing:
--dry-run. Every field: `mae-dist config show pretrain/k400 --set data.catalog=any`. Submitted again, the job
does what is missing.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/k400"))

"""MAE ViT-B on ImageNet-1k (1600 epochs), then linear probe and fine-tuning, then the report.

8 GPUs as written. The images lie in class folders, or in Parquet shards (columns image and label):

    ray job submit --working-dir . -- python jobs/pretrain_in1k.py \
        --set "data.catalog=s3://bucket/in1k/train-*.parquet" \
        --set "data.test_catalog=s3://bucket/in1k/validation-*.parquet" --storage s3://bucket/runs

The paper's 64 GPUs, the same global batch:

    ... --set resources.workers=64 --set train.micro_batch=64

Other test sets for the fine-tuned weights, from classes found by name (ImageNet-A, -R, -Sketch, -C):

    ... --set evaluations.finetune.robustness.a.catalog=s3://bucket/imagenet-a

Any folder of images will do: --set data.catalog=photos --set evaluations={}. Check and print the steps, start
nothing: --dry-run. Every field: `mae-dist config show pretrain/in1k --set data.catalog=any`. Submitted again,
the job does what is missing.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/in1k"))

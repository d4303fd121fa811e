"""Every protocol beside the others on CIFAR-10 and two CPU cores, in about half an hour, then the report.

The images lie in Parquet shards with the columns image and label:

    python jobs/cifar10.py --set "data.catalog=cifar10/train-*.parquet" \
        --set "data.test_catalog=cifar10/test-*.parquet"

or on a cluster, with `ray job submit --working-dir . --` in front and both places where all nodes reach them.
A short pretraining comes first; then linear probes (the paper's way and on features that are kept), kNN,
partial and full fine-tuning, and training from scratch. With more time: --set "train.length=12 epochs".
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/cifar10_protocols"))

"""What pretrained weights are worth: a recipe's evaluations of them, without pretraining, then the report.

The weights are those of a run, by its directory, or a file model.safetensors that a run exported. The recipe
says which model they are of, how samples are looked at and what is evaluated:

    ray job submit --working-dir . -- python jobs/evaluate_checkpoint.py --recipe pretrain/ucf101 \
        --set weights=s3://bucket/runs/videomae_base_k400-0123456789ab --storage s3://bucket/runs \
        --set data.catalog=s3://bucket/ucf-train1.parquet --set data.test_catalog=s3://bucket/ucf-test1.parquet

Other protocols, by the name of a packaged recipe, and some that are left out:

    ... --set evaluations.fast.extends=probe/k400_fast --set evaluations.finetune=null

Weights that do not fit the recipe are refused before anything starts. Check and print the steps, start
nothing: --dry-run. Submitted again, the job does what is missing.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/in1k", needs=("weights",)))

"""The whole way in small: draw clips, pretrain, evaluate, report. Also: `make demo`.

Nothing is downloaded, and no GPU is needed; two CPU cores take three to five minutes:

    python jobs/demo.py

The same on the cluster that RAY_ADDRESS names, with its runs where all nodes reach them:

    ray job submit --working-dir . -- python jobs/demo.py --storage /shared/runs

Any field of the recipe can be changed, as in --set mask.ratio=0.9. Check and print the steps, start nothing:
--dry-run. Submitted again, the job does what is missing; the last lines it prints say where the report is.
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/demo"))

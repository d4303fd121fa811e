"""What pretraining gains when labels are few, on images that the run draws. Also: `make showcase`.

python jobs/showcase.py
ray job submit --working-dir . -- python jobs/showcase.py --storage /shared/runs
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/showcase"))

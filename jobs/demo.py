"""The whole way in small: draw clips, pretrain, evaluate, report. Also: `make demo`.

python jobs/demo.py
ray job submit --working-dir . -- python jobs/demo.py --storage /shared/runs
"""

from mae_dist.cli.run import main

if __name__ == "__main__":
    raise SystemExit(main("pretrain/demo"))

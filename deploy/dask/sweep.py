"""The shards of a planned sweep on Dask: python3 sweep.py tcp://scheduler:8786 /shared/sweep

Every worker needs `tiershift` in its path, and the folder at the same place. A shard is complete or absent, and a shard that is run
twice (the child process of a killed worker continues) gives the same file.
"""

import json
import pathlib
import subprocess
import sys

from distributed import Client, as_completed


def run(folder, shard):
    """Runs a shard; raises if a retry may help, and returns the shard and its exit code."""
    ended = subprocess.run(["tiershift", "sweep", "run", folder, "--shard", str(shard), "--jobs", "1"])
    if ended.returncode == 75:
        raise RuntimeError(f"shard {shard}: a retry may help")
    return shard, ended.returncode


def main(scheduler, folder):
    plan = json.loads((pathlib.Path(folder) / "plan.json").read_text())
    shards = range(len(plan["shards"]))
    failed = []
    with Client(scheduler) as client:
        futures = [client.submit(run, folder, shard, pure=False, retries=3) for shard in shards]
        # Futures are released one by one, so that finished shards of a lost worker are not run again.
        for future in as_completed(futures):
            shard, code = future.result()
            future.release()
            if code != 0:
                failed.append(shard)
    if failed:
        sys.exit(f"shards {sorted(failed)} failed: see the workers' logs")
    sys.exit(subprocess.run(["tiershift", "sweep", "merge", folder]).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A policy as a program of your own: tiershift replay traces/models-come-and-go.csv --policy "exec:python3 examples/policy.py"

Steps up to the largest tier that has fitted below 85 % of main memory for two minutes, and steps down to what fits at once.
"""
import json
import sys

CALM_NS = 120 * 10**9


def fitting(tiers, memory, line):
    """The names of the tiers that fit beside others' use, from the smallest up."""
    room = line * memory["total_bytes"] - memory["others_bytes"]
    return [tier["tier"] for tier in tiers if tier["ram_bytes"] <= room]


setup = json.loads(sys.stdin.readline())["setup"]
since = {}  # the time since which each tier has fitted
for line in sys.stdin:
    reading = json.loads(line)["reading"]
    memory = reading["sample"].get("memory")
    answer = None
    if memory:
        fits = fitting(setup["tiers"], memory, 0.85)
        since = {tier: since.get(tier, reading["at_ns"]) for tier in fits}
        calm = [tier for tier in fits if reading["at_ns"] - since[tier] >= CALM_NS]
        if reading["tier"] not in fits:
            answer = fits[-1] if fits else "none"
        elif calm and fits.index(calm[-1]) > fits.index(reading["tier"]):
            answer = calm[-1]
    print(json.dumps({"tier": answer}), flush=True)

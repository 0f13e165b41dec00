#!/bin/sh
# The load of memory-hog.csv: five times up to about 90 % of the memory, slowly or at once, and back.
# Usage: sh traces/memory-hog.sh path/to/hog                (cargo build -p tiershift-testkit --bin hog)
hog=${1:-target/debug/hog}

sleep 20
for ramp in 60s 10s 30s 2s 45s; do
    "$hog" 23GiB "$ramp" 65s 90%
    sleep 10
done

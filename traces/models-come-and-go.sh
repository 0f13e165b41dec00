#!/bin/sh
# The load of models-come-and-go.csv: eleven model-sized processes over 26 minutes.
# Usage: sh traces/models-come-and-go.sh path/to/hog        (cargo build -p tiershift-testkit --bin hog)
hog=${1:-target/debug/hog}

model() { # starts at second $1: a model of size $2, loaded within $3, gone $4 after its start
    (sleep "$1" && exec "$hog" "$2" "$3" "$4" 91%) &
}

model   60 4GiB 15s  360s   # a mid-sized model is loaded and stays six minutes
model  150 8GiB 30s  150s   # a second one beside it
model  240 7GiB 20s   50s   # a third, for a short while: most of the machine is taken
model  500 1GiB  3s   60s   # quiet, but for two small ones
model  640 2GiB  5s   45s
model  790 9GiB  4s  180s   # after six quiet minutes a large one, at once
model  850 9GiB 40s   90s   # another, slowly
model  900 5GiB 15s   45s   # and one more than fits: it gets what is left below 91 %
model 1010 2GiB  5s  150s   # the way down, in steps
model 1060 5GiB 20s  120s
model 1300 1GiB  2s   30s   # a last small one in the calm
wait

# What the scripts beside this one share. Each can be run alone: `.ci/lint`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TERM_COLOR=never
export RUST_BACKTRACE=0
# Everything is built once, and nobody looks at it with a debugger: a fifth less to compile.
export CARGO_INCREMENTAL=0
export CARGO_PROFILE_DEV_DEBUG=0
target="${CARGO_TARGET_DIR:-target}"
# Packages whose tests and lints are ours.
workspace=(--workspace --locked)

step() {
  printf '\n== %s (%ss)\n' "$*" "$SECONDS"
}

# Runs tests. Prints the closing lines of each runner and what was skipped, and everything where a test failed. What
# was skipped is kept for the end.
skipped="$target/skipped-tests.txt"
tests() {
  local log
  log="$(mktemp)"
  if "$@" >"$log" 2>&1; then
    grep -E '^test result|^(     Running|   Doc-tests)' "$log"
    grep -oE 'SKIPPED [0-9]+: .*' "$log" | tee -a "$skipped" || true
    rm -f "$log"
  else
    cat "$log"
    rm -f "$log"
    return 1
  fi
}

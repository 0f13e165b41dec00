# Shared by the scripts in this folder. Each of them can be run alone: `.ci/lint`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TERM_COLOR=never
export RUST_BACKTRACE=0
# Everything is built once and never debugged; this saves a fifth of the compile time.
export CARGO_INCREMENTAL=0
export CARGO_PROFILE_DEV_DEBUG=0
target="${CARGO_TARGET_DIR:-target}"
# Our own packages.
workspace=(--workspace --locked)
# What plays, draws and checks, optimised, without the daemon and its dependencies: nothing of these is in a report.
optimised=(--quiet --locked --release --no-default-features --features png --bin tiershift --target-dir "$target/optimised")

step() {
  printf '\n== %s (%ss)\n' "$*" "$SECONDS"
}

# Runs tests. Prints the last lines of each runner and the skipped tests, or everything if a test failed. The list of
# skipped tests is kept for the end.
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

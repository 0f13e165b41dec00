#!/usr/bin/env bash
# Runs real clients against `tiershift serve` and against a bare llama-server with the same arguments, and prints a table of
# both. Fails if a cell is worse than bare. The clients are installed under target/clients, in the versions that
# requirements.txt, requirements-aider.txt and package.json pin; the first run takes some minutes.
#
#   tests/clients/run.sh [--only CLIENT]
#
# TIERSHIFT names the program (default target/debug/tiershift), TIERSHIFT_LLAMA_SERVER a llama-server.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
place=$root/target/clients
tiershift=${TIERSHIFT:-$root/target/debug/tiershift}
mkdir -p "$place"

llama=${TIERSHIFT_LLAMA_SERVER:-}
if [ -z "$llama" ]; then
  bash "$root/scripts/get-llama-server.sh" "$root/target/tmp/llama-server" >&2
  llama=$root/target/tmp/llama-server/llama-server
fi

if ! cmp -s "$here/requirements.txt" "$place/python.installed"; then
  python3 -m venv "$place/python"
  "$place/python/bin/pip" install -q -r "$here/requirements.txt" >&2
  cp "$here/requirements.txt" "$place/python.installed"
fi

if ! cmp -s "$here/requirements-aider.txt" "$place/aider.installed"; then
  python3 -m venv "$place/aider"
  "$place/aider/bin/pip" install -q -r "$here/requirements-aider.txt" >&2
  cp "$here/requirements-aider.txt" "$place/aider.installed"
fi
export AIDER=$place/aider/bin/aider
if ! cmp -s "$here/package.json" "$place/node/installed.json"; then
  mkdir -p "$place/node"
  cp "$here/package.json" "$place/node/"
  (cd "$place/node" && npm install --no-audit --no-fund) >&2
  cp "$here/package.json" "$place/node/installed.json"
fi

# One small model with random weights for both, with the sizes in the catalog.
models=$place/models
if [ ! -e "$models/a.gguf" ]; then
  mkdir -p "$models"
  (cd "$root" && cargo run -q -p tiershift-testkit --bin random_models -- "$place/all") >&2
  cp "$(ls -S -r "$place"/all/*.gguf | head -1)" "$models/a.gguf"
fi
cat > "$place/catalog.toml" <<'CATALOG'
[[model]]
id = "a"
tier = "small"
quality = "100%"
ram = "200MiB"
context-tokens = 4096
load-warm = "100ms"
load-cold = "1s"
prefill-tokens-per-second = 1000
decode-tokens-per-second = 100
tasks = ["chat", "embedding"]
CATALOG

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
started=()
stop() { for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done; wait 2>/dev/null || true; }
trap stop EXIT

bare=$(free_port)
LLAMA_ARG_THREADS=1 "$llama" --model "$models/a.gguf" --alias a --host 127.0.0.1 --port "$bare" --ctx-size 8192 --parallel 2 \
  --no-webui --offline --n-gpu-layers 0 --embeddings --pooling mean > "$place/bare.log" 2>&1 &
started+=($!)
tier=$(free_port)
LLAMA_ARG_THREADS=1 "$tiershift" serve --llama-server "$llama" --models "$models" --catalog "$place/catalog.toml" --port "$tier" \
  > "$place/tiershift.log" 2>&1 &
started+=($!)
for port in "$bare" "$tier"; do
  for _ in $(seq 300); do curl -sf "http://127.0.0.1:$port/health" > "$place/health" && break; sleep 0.2; done
done

code=0
"$place/python/bin/python" "$here/clients.py" "http://127.0.0.1:$tier" "http://127.0.0.1:$bare" "$@" || code=1
# Node searches for imports beside the script.
cp "$here/clients.mjs" "$place/node/"
node "$place/node/clients.mjs" "http://127.0.0.1:$tier" "http://127.0.0.1:$bare" "$@" || code=1
exit $code

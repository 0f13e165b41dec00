#!/usr/bin/env bash
# Builds tiershift for another processor, runs it under emulation here, and compares what it writes with the reviewed bytes:
# reports, golden stories, digests.
#
#   scripts/bytes-elsewhere.sh     # needs gcc-aarch64-linux-gnu, qemu-user-static and `rustup target add aarch64-unknown-linux-gnu`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

other=aarch64-unknown-linux-gnu
tools=aarch64-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$tools-gcc" CC_aarch64_unknown_linux_gnu="$tools-gcc"
cargo build --release --locked --bin tiershift --target "$other"

build="$(realpath "${CARGO_TARGET_DIR:-target}")"
program="$build/$other/tiershift-emulated"
cat > "$program" <<WRAPPER
#!/bin/sh
exec qemu-aarch64-static -L /usr/$tools "$build/$other/release/tiershift" "\$@"
WRAPPER
chmod +x "$program"
TIERSHIFT_PROGRAM="$program" cargo test --locked --test it -- determinism:: reports:: scenarios::

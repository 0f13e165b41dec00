#!/usr/bin/env bash
# Runs the README's commands on a fresh system, and prints how long each one takes.
#
#   scripts/newcomer.sh FOLDER        # as root, on Debian with mmdebstrap; a gigabyte and a half, half an hour
#
# FOLDER becomes a fresh Debian with a C compiler, git and curl, and the Rust of this machine. The script runs the README's blocks of
# commands in order; `tiershift serve` keeps running during the block after it, as in another terminal. Fails if a command fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$(realpath -m "${1:?usage: scripts/newcomer.sh FOLDER}")"

if [ ! -e "$root/etc/debian_version" ]; then
  mmdebstrap --variant=minbase --include=ca-certificates,curl,gcc,libc6-dev,git bookworm "$root"
fi
rust="$(rustc --print sysroot)"
cleanup() { umount -l "$root/rust" "$root/proc" "$root/dev" 2>/dev/null || true; }
trap cleanup EXIT
cleanup
mkdir -p "$root/rust" "$root/srv"
mount --bind "$rust" "$root/rust"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp /etc/resolv.conf "$root/etc/"
cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
rm -rf "$root/srv/tiershift"
git clone --quiet . "$root/srv/tiershift"

# The commands of the README, each with the number of its block.
awk '/^```sh/ { block++; inside = 1; next } /^```/ { inside = 0 } inside && NF { print block "\t" $0 }' README.md > "$root/srv/commands"

cat > "$root/srv/follow" <<'FOLLOW'
shopt -s expand_aliases
export PATH="/rust/bin:$PATH" HOME=/srv
cd ~/tiershift
serving=
failed=0
while IFS=$'\t' read -r block command <&3; do
  if [ -n "$serving" ] && [ "$block" -gt "$((served_in + 1))" ]; then
    kill -INT "$serving"; wait "$serving" || failed=1; serving=
  fi
  began=$SECONDS
  case "$command" in
    *"tiershift serve"*)
      # Without `exec`, the signal would reach a shell, which ignores it.
      eval "exec $command" > ~/serve.txt 2>&1 & serving=$!; served_in=$block
      until grep -q '^serving on' ~/serve.txt || ! kill -0 "$serving" 2>/dev/null; do sleep 1; done
      code=0 ;;
    *) eval "$command" > ~/out.txt 2>&1 < /dev/null && code=0 || code=$? ;;
  esac
  # Two runs that differ are what the README shows: 1, as of diff(1).
  case "$command" in
    *"tiershift diff "*) [ "$code" = 1 ] && code=0 ;;
  esac
  printf '%4d s  %s%s\n' "$((SECONDS - began))" "$command" "$([ "$code" = 0 ] || echo "   FAILED ($code)")"
  [ "$code" = 0 ] || { failed=1; tail -n 15 ~/out.txt; }
done 3< ~/commands
[ -z "$serving" ] || kill -INT "$serving"
wait
exit "$failed"
FOLLOW
chroot "$root" bash /srv/follow

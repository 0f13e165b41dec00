#!/usr/bin/env bash
# Makes the release files other than the crates: an archive, a Debian package and their checksums.
#
#   scripts/release.sh                                     # for this machine, into target/dist
#   scripts/release.sh --target aarch64-unknown-linux-gnu  # needs gcc-aarch64-linux-gnu and `rustup target add`
#
# --program FILE packs a program that is already built; --out DIR sets the output folder. Manual pages and completions are written
# by a program that runs on this machine: with --target for another processor, by an additional build for this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target="$(rustc -vV | sed -n 's/^host: //p')"
host="$target" program="" out=target/dist
while [ $# -gt 0 ]; do
  case "$1" in
    --target) target="$2" ;;
    --program) program="$2" ;;
    --out) out="$2" ;;
    *) echo "unknown option $1: see the head of $0" >&2; exit 2 ;;
  esac
  shift 2
done

case "$target" in
  x86_64-unknown-linux-gnu) architecture=amd64 tools="" ;;
  aarch64-unknown-linux-gnu) architecture=arm64 tools=aarch64-linux-gnu- ;;
  *) echo "there is no package for $target: give x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu" >&2; exit 2 ;;
esac
if [ "$target" = "$host" ]; then
  tools=""
fi

version="$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)"
build="${CARGO_TARGET_DIR:-target}"
runs_here="$program"
if [ -z "$program" ]; then
  cargo build --release --locked --bin tiershift
  runs_here="$build/release/tiershift"
  program="$runs_here"
  if [ "$target" != "$host" ]; then
    linker="CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER"
    export "$linker=${tools}gcc" "CC_${target//-/_}=${tools}gcc" "AR_${target//-/_}=${tools}ar"
    cargo build --release --locked --bin tiershift --target "$target"
    program="$build/$target/release/tiershift"
  fi
fi

mkdir -p "$out"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
name="tiershift-$version-$target"
folder="$work/$name"
mkdir -p "$folder/man" "$folder/completions" "$folder/systemd/user"
cp "$program" "$folder/tiershift"
"${tools}strip" "$folder/tiershift"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$folder"
cp packaging/systemd/tiershift.service "$folder/systemd"
cp packaging/systemd/user/tiershift.service "$folder/systemd/user"
"$runs_here" --quiet man "$folder/man" >/dev/null
"$runs_here" completions bash >"$folder/completions/tiershift.bash"
"$runs_here" completions zsh >"$folder/completions/_tiershift"
"$runs_here" completions fish >"$folder/completions/tiershift.fish"

# The oldest C library that has every symbol in use.
glibc="$("${tools}objdump" -T "$folder/tiershift" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)"

# The same program gives the same bytes, whenever it is packed.
epoch="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH="$epoch"
find "$work" -exec touch --date "@$epoch" {} +
tar --sort=name --owner=0 --group=0 --numeric-owner --directory "$work" --create "$name" | gzip -9n >"$out/$name.tar.gz"

root="$work/deb"
put() { install -D --mode "$1" "$2" "$root/$3"; }
put 755 "$folder/tiershift" usr/bin/tiershift
for unit in usr/lib/systemd/system/tiershift.service:systemd/tiershift.service usr/lib/systemd/user/tiershift.service:systemd/user/tiershift.service; do
  put 644 "$folder/${unit#*:}" "${unit%%:*}"
  sed -i 's|^ExecStart=[^ ]*/tiershift |ExecStart=/usr/bin/tiershift |' "$root/${unit%%:*}"
done
put 644 packaging/debian/sysusers.conf usr/lib/sysusers.d/tiershift.conf
put 644 "$folder/completions/tiershift.bash" usr/share/bash-completion/completions/tiershift
put 644 "$folder/completions/_tiershift" usr/share/zsh/vendor-completions/_tiershift
put 644 "$folder/completions/tiershift.fish" usr/share/fish/vendor_completions.d/tiershift.fish
for page in "$folder"/man/*.1; do
  put 644 "$page" "usr/share/man/man1/$(basename "$page")"
done
gzip -9n "$root"/usr/share/man/man1/*.1
for file in README.md CHANGELOG.md; do
  put 644 "$file" "usr/share/doc/tiershift/$file"
done
cat LICENSE-MIT LICENSE-APACHE >"$work/copyright"
put 644 "$work/copyright" usr/share/doc/tiershift/copyright
put 755 packaging/debian/postinst DEBIAN/postinst
put 755 packaging/debian/prerm DEBIAN/prerm
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@GLIBC@/$glibc/" packaging/debian/control >"$root/DEBIAN/control"
package="tiershift_${version}_$architecture.deb"
dpkg-deb --root-owner-group --build "$root" "$out/$package" >/dev/null

(cd "$out" && sha256sum "$name.tar.gz" "$package" >"SHA256SUMS-$target")
echo "$out/$name.tar.gz and $out/$package need glibc $glibc or newer:"
cat "$out/SHA256SUMS-$target"

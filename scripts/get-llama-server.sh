#!/bin/bash
# get-llama-server.sh FOLDER: puts Debian testing's build of llama-server under FOLDER, in some seconds and without
# changing the host's packages: its libraries are included and used only by this program. Does nothing if
# FOLDER/llama-server already runs. Needs Debian (or a derivative) on x86-64 with apt-get and dpkg-deb, but no root.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
folder=$(realpath -m "$1"); mkdir -p "$folder"
says() { "$folder/llama-server" --version 2>&1 | head -1; }
if [ -x "$folder/llama-server" ] && "$folder/llama-server" --version >/dev/null 2>&1; then says; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/debs "$work"/patchelf

# The mirror that this host already uses, for the suite that has the program.
suite=${LLAMA_SUITE:-forky}
mirror() { apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' | awk '$2=="Debian"{print $1; exit}'; }
uri=$(mirror)
[ -n "$uri" ] || { apt-get -q update; uri=$(mirror); }
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
  "$uri" "$suite" > "$work/suite.sources"
options=(-q -o Dir::Etc::sourcelist="$work/suite.sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
  -o Dir::Cache="$work/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root
  -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
apt-get "${options[@]}" update
cd "$work/debs"
apt-get "${options[@]}" download llama.cpp-tools libllama0 libggml0 libssl3t64 libgcc-s1 libstdc++6 libc6 libgomp1 \
  zlib1g libzstd1
# patchelf runs on the host, so it comes from the host's release.
patchelf() { apt-get -q -o APT::Sandbox::User=root download patchelf; }
patchelf || { apt-get -q update; patchelf; }

root="$folder/root"; rm -rf "$root"; mkdir -p "$root"
dpkg-deb -x patchelf_*.deb "$work/patchelf"; rm patchelf_*.deb
for package in *.deb; do dpkg-deb -x "$package" "$root"; done
ls ./*.deb > "$folder/versions.txt"
libraries="$root/usr/lib/x86_64-linux-gnu"
# ggml looks for its backends beside the program.
cp "$libraries"/ggml/backends*/libggml-cpu-*.so "$root/usr/bin/"
"$work/patchelf/usr/bin/patchelf" --set-interpreter "$root/usr/lib64/ld-linux-x86-64.so.2" "$root/usr/bin/llama-server"
printf '#!/bin/sh\nLD_LIBRARY_PATH=%s/llama:%s exec %s/usr/bin/llama-server "$@"\n' \
  "$libraries" "$libraries" "$root" > "$folder/llama-server"
chmod +x "$folder/llama-server"
says

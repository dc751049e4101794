#!/bin/sh
# Builds repd and repctl and installs them with units, completions and manual pages. DESTDIR and PREFIX as usual.
set -eu
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
cd "$(dirname "$0")/../.."

cargo build --release --locked -p repd -p repctl
target=${CARGO_TARGET_DIR:-target}/release

install -d "$root$prefix/bin" "$root$prefix/share/man/man1" "$root$prefix/share/bash-completion/completions" \
    "$root$prefix/share/zsh/site-functions" "$root$prefix/share/fish/vendor_completions.d" "$root/etc/systemd/system" \
    "$root/etc/repd"
install -m 755 "$target/repd" "$target/repctl" "$root$prefix/bin/"
"$target/repctl" completions bash > "$root$prefix/share/bash-completion/completions/repctl"
"$target/repctl" completions zsh > "$root$prefix/share/zsh/site-functions/_repctl"
"$target/repctl" completions fish > "$root$prefix/share/fish/vendor_completions.d/repctl.fish"
"$target/repctl" man "$root$prefix/share/man/man1"
for unit in repd.service repd-primary@.service repd-verify@.service repd-verify@.timer; do
    sed "s|/usr/local/bin|$prefix/bin|" "tools/packaging/systemd/$unit" > "$root/etc/systemd/system/$unit"
done
echo "installed below ${root:-/}; write /etc/repd/repd.toml, then: systemctl enable --now repd"

#!/bin/sh
# Builds repd and repctl and installs them with units, udev's rule, completions and manual pages. DESTDIR and PREFIX as usual.
set -eu
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
cd "$(dirname "$0")/../.."

cargo build --release --locked -p repd -p repctl
target=${CARGO_TARGET_DIR:-target}/release

install -d "$root$prefix/bin" "$root$prefix/share/man/man1" "$root$prefix/share/bash-completion/completions" \
    "$root$prefix/share/zsh/site-functions" "$root$prefix/share/fish/vendor_completions.d" "$root/etc/systemd/system" \
    "$root/etc/repd" "$root/etc/udev/rules.d" "$root/etc/modules-load.d"
install -m 755 "$target/repd" "$target/repctl" "$root$prefix/bin/"
"$target/repctl" completions bash > "$root$prefix/share/bash-completion/completions/repctl"
"$target/repctl" completions zsh > "$root$prefix/share/zsh/site-functions/_repctl"
"$target/repctl" completions fish > "$root$prefix/share/fish/vendor_completions.d/repctl.fish"
"$target/repctl" man "$root$prefix/share/man/man1"
for unit in repd.service repd-primary@.service repd-verify@.service repd-verify@.timer; do
    sed "s|/usr/local/bin|$prefix/bin|" "tools/packaging/systemd/$unit" > "$root/etc/systemd/system/$unit"
done
sed "s|/usr/local/bin|$prefix/bin|" tools/packaging/udev/60-repd.rules > "$root/etc/udev/rules.d/60-repd.rules"
install -m 644 tools/packaging/modules-load/repd.conf "$root/etc/modules-load.d/repd.conf"
# What a package's own scripts would do. Where it isn't this machine that is installed on, its next start does it.
if [ -z "$root" ]; then
    ! [ -d /run/systemd/system ] || systemctl daemon-reload
    ! [ -d /run/systemd/system ] || systemctl restart systemd-modules-load || echo "see 'systemctl status systemd-modules-load'" >&2
    ! [ -S /run/udev/control ] || udevadm control --reload
fi
echo "installed below ${root:-/}; write /etc/repd/repd.toml, then: systemctl enable --now repd"

#!/bin/bash
# A machine as installed: systemd is process 1, the daemon its service, confined as the unit says, and udev tells systemd the
# device's name. vz.mount alone brings up all it needs; it lives through a restart and a death of the daemon, which systemd mends;
# what is stopped goes in the order that a shutdown has.
#
#   cargo xtask guest -s -t 900 -d 512M -d 512M -e DEVICE=nbd tools/lab/systemd.sh tools/packaging
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
A=/run/repd # where the unit has it
ALPHA_ADDRESS=127.0.0.1:7788
LINKS='links = { "/etc/lxc" = "/vz/etc/lxc" }'
units=/etc/systemd/system
named='dev-repd-by\x2dres-vz-0.device' # the unit of /dev/repd/by-res/vz/0

until_so() { local n; for ((n = 0; n < 600; n++)); do "$@" && return; sleep 0.1; done; fail "waited in vain for: $*"; return 1; }
is() { systemctl is-active --quiet "$1"; }
isnt() { ! is "$1"; }
ask() { systemctl "$@" || { fail "systemctl $*"; systemctl status --no-pager -l "${@: -1}"; journalctl -b --no-pager -n 20; return 1; }; }
is_primary() { repctl status 2>/dev/null | grep -q 'alpha Primary'; }
main_pid() { systemctl show -P MainPID repd.service; }
next_primary() { [ "$(main_pid)" != "$before" ] && [ "$(main_pid)" != 0 ] && is_primary; } # another process than $before
finish() {
  [ $failed = 0 ] || { journalctl -b --no-pager -u repd -u vz.mount -u repd-primary@vz -n 60; systemctl --failed --no-pager; udevadm info "$(device)"; }
  end
}

say "installed"
hostname alpha
install -d /usr/local/bin && install -m 755 repd repctl /usr/local/bin/
install -d /etc/repd /etc/udev/rules.d /etc/modules-load.d $units /etc/lxc
echo own >/etc/lxc/conf
# As install.sh puts them; udev's rule comes later.
install -m 644 packaging/systemd/{repd.service,repd-primary@.service,repd-verify@.service,repd-verify@.timer,vz.mount,vz-links.service} $units/
install -m 644 packaging/modules-load/repd.conf /etc/modules-load.d/
configure $D0 $D1 && install -m 600 /run/repd.toml /etc/repd/repd.toml
systemd-analyze verify $units/{repd.service,repd-primary@vz.service,repd-verify@vz.timer,vz.mount,vz-links.service} 2>&1 |
  grep -v 'man ' | tee /tmp/said
[ ! -s /tmp/said ] || fail "systemd finds fault with the units"
ask daemon-reload; ask restart systemd-modules-load
create_md alpha && create_md beta || { fail "create-md"; finish; }
start beta; ready $B || finish
ask start repd || finish
repctl wait vz connected --timeout 60s && repctl new-generation vz --clear-bitmap || { fail "no pair"; finish; }

say "control: without udev's rule systemd learns of no device"
ask start repd-primary@vz || finish
is_primary && [ -b "$(device)" ] || fail "not Primary, or no device"
udevadm settle --timeout=60
isnt "$named" || fail "it is known without the rule: this scenario shows nothing of it"
ask stop repd-primary@vz
is_primary && fail "still Primary"
[ -e /dev/repd/by-res/vz/0 ] && fail "still a device"

say "with it, a file system, and vz.mount alone brings up all it needs"
install -m 644 packaging/udev/60-repd.rules /etc/udev/rules.d/ && udevadm control --reload
ask start repd-primary@vz || finish
until_so is "$named" || finish
mkfs.ext4 -qF "$(device)" && mount "$(device)" /mnt && mkdir -p /mnt/etc/lxc && echo shared >/mnt/etc/lxc/conf && umount /mnt || fail "no file system"
ask stop repd-primary@vz
until_so isnt "$named"
ask enable -q vz-links.service; ask stop repd; isnt repd || fail "repd is still active"
ask start vz.mount || finish
[ "$(findmnt -no SOURCE /vz)" = "$(device)" ] || fail "/vz isn't the device"
is repd && is repd-primary@vz || fail "vz.mount has not brought up the daemon and the role"
until_so is vz-links.service; [ "$(cat /etc/lxc/conf)" = shared ] || fail "no links"

say "restarted and killed under it"
dev=$(device) mount_id=$(findmnt -no ID /vz)
fio --name=load --directory=/vz --size=8M --rw=randrw --bs=4k --ioengine=io_uring --direct=1 --iodepth=8 --fsync=16 --time_based \
  --runtime=40s --verify=crc32c --verify_state_save=0 --max_latency=120s --output=/tmp/fio.txt & load=$!
lives() { # after WHAT: the daemon is another, the mount and the units are the same
  until_so next_primary || return
  echo "$1: Primary again after $(($(now_ms) - t0)) ms"
  [ "$(device)" = "$dev" ] && [ "$(findmnt -no ID /vz)" = "$mount_id" ] && is vz.mount && is "$named" && is repd-primary@vz &&
    is vz-links.service || fail "$1: not everything stayed"
  kill -0 $load 2>/dev/null || fail "$1: the load has ended"
  repctl wait vz synced --timeout 300s || fail "$1: not synced"
}
sleep 2
before=$(main_pid) t0=$(now_ms); ask restart repd; lives "restart"
before=$(main_pid) t0=$(now_ms); ask kill -s KILL repd; lives "death"
wait $load || { fail "the load met an error"; cat /tmp/fio.txt; }
grep -E 'err=|clat .*max' /tmp/fio.txt | head -n 2
[ "$(systemctl show -P NRestarts repd)" -ge 1 ] || fail "systemd hasn't started it again itself"

say "confined, and nothing it needs is refused"
flushers "$(main_pid)" $beta
systemctl show -p MainPID,NoNewPrivileges,ProtectSystem repd; grep -E 'Seccomp:|CapBnd|NoNewPrivs' "/proc/$(main_pid)/status"
[ "$(awk '/^Seccomp:/ { print $2 }' "/proc/$(main_pid)/status")" = 2 ] || fail "no filter of system calls"
journalctl -b --no-pager -u repd | grep -iE 'not permitted|permission denied|EPERM|EACCES|read-only file system|SIGSYS|core-dump' && fail "something is refused to the daemon"
[ "$(awk '/^VmLck/ { print $2 }' "/proc/$(main_pid)/status")" -gt 0 ] || fail "its memory isn't locked"
repctl status vz --json | grep -q '"memory_reserve":true' || fail "its data threads may not run in real time"

say "compared by its unit, as the timer has it"
ask start repd-verify@vz.service && journalctl -b --no-pager -u repd-verify@vz -o cat | tail -n 4
ask start repd-verify@vz.timer; systemctl list-timers --no-pager repd-verify@vz.timer | grep -q repd-verify || fail "no timer"

say "stopped, as a shutdown does"
ask stop vz.mount repd-primary@vz
findmnt /vz && fail "still mounted"
[ "$(cat /etc/lxc/conf)" = own ] || fail "what stood at /etc/lxc isn't back"
until_so isnt "$named"; [ -e /dev/repd/by-res/vz/0 ] && fail "the device is still there"
repctl status | grep -q 'alpha Secondary' || fail "not Secondary"
ask start repd-primary@vz && until_so is "$named" && fsck.ext4 -fn "$(device)" >/tmp/fsck.txt 2>&1 || { fail "fsck"; cat /tmp/fsck.txt; }
ask stop repd-primary@vz
ask stop repd; on $B down vz; kill $beta; wait $beta
[ "$(systemctl show -P Result repd)" = success ] || fail "repd ended with $(systemctl show -P Result repd)"
systemctl list-units --failed --no-pager --plain --no-legend 'repd*' 'vz*' >/tmp/said && [ ! -s /tmp/said ] || { fail "a unit has failed"; cat /tmp/said; }
equal_disks $D0 $D1 || fail "the disks differ"
clean_kernel_log
finish

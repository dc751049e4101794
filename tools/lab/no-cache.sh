#!/bin/bash
# Neither disk has a volatile cache, so the device is made without one, and the kernel sends it no flushes (decision 38). That
# holds for a daemon that takes the device over alone, knowing nothing of the peer's disk, and while a disk has one
# again; the next device has one then.
#
#   cargo xtask guest -t 900 -d 128M -d 128M -e DEVICE=nbd tools/lab/no-cache.sh
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
queue() { echo "/sys/block/$(basename "$(readlink -f "$1")")/queue/write_cache"; }
disks_have() { for disk in $D0 $D1; do echo "$1" >"$(queue $disk)" || { fail "$disk: can't be made $1"; end; }; done; }
flushes() { awk '{ print $16 }' "/sys/block/$(basename "$(device)")/stat"; } # that the kernel has sent it
told() { # told "write through"|"write back" false|true: what the kernel and the status say
  local now; now=$(cat "$(queue "$(device)")")
  [ "$now" = "$1" ] || fail "the device is '$now', not '$1'"
  on $A status --json | grep -q "\"volatile_cache\":$2" || fail "the status doesn't say so"
}
synced() { # synced NAME: files that are made stable one by one; how many flushes came of it
  local before n; before=$(flushes)
  for ((n = 0; n < 10; n++)); do dd if=/dev/urandom of="/vz/$1.$n" bs=8k count=2 conv=fsync status=none || fail "fsync"; done
  md5sum /vz/"$1".* >>/tmp/sums
  came=$(($(flushes) - before)); echo "$came flushes of 10 files made stable"
}
: >/tmp/sums

say "a device without a cache"
disks_have "write through"
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
told "write through" false
mkfs.ext4 -qF "$dev" && mount "$dev" /vz || { fail "no file system"; end; }
synced first; [ "$came" = 0 ] || fail "flushes for nothing"

say "taken over by a daemon that is alone, over a disk with a cache"
kill -9 $beta; wait $beta 2>/dev/null
synced alone; [ "$came" = 0 ] || fail "flushes that nobody was told of"
kill -9 $alpha; wait $alpha 2>/dev/null
disks_have "write back"
start alpha; ready $A
until_primary || fail "not Primary"
[ "$(device)" = "$dev" ] || fail "another device"
told "write through" false
synced after
start beta; ready $B
on $A wait vz synced --timeout 300s || fail "not synced"
told "write through" false

say "the next device has one"
unmounted
on $A secondary vz && on $A primary vz && dev=$(device) || { fail "no device"; end; }
told "write back" true
mount "$dev" /vz || { fail "no file system"; end; }
md5sum -c --quiet /tmp/sums || fail "the files aren't what was written"
synced last; [ "$came" -gt 0 ] || fail "no flushes came, so their count tells nothing"

say "the end"
unmounted
taken_down $D0 $D1
end

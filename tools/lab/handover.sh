#!/bin/bash
# The role is handed over under a mounted, written file system, to and fro: no error, no unmount. The old node's disk is taken
# away and comes back meanwhile; the new Primary is killed, and the old one takes the role back; the daemon of the node that forwards
# is killed, and ended, with the new Primary out of reach: the next one doesn't go on alone, and the mount goes on with the role.
#
#   cargo xtask guest -d 512M -d 512M -e DEVICE=nbd tools/lab/handover.sh
#
# Both nodes are in one guest, so both devices are, and the link by-res shows one of them: alpha's is remembered.
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
mkfs.ext4 -qF "$dev" && mount "$dev" /vz || { fail "no file system"; end; }
role() { on "$1" status --json | sed 's/.*"name":"vz","role":"\([A-Za-z]*\)".*/\1/'; }
are() { [ "$(role $A)" = "$1" ] && [ "$(role $B)" = "$2" ] || fail "roles: $(role $A) and $(role $B)"; }
in_sync() { on $A wait vz synced --timeout 120s && on $B wait vz synced --timeout 120s || fail "not in sync"; }

fio --name=load --directory=/vz --size=16M --rw=randrw --bsrange=512-64k --bs_unaligned=0 --blockalign=512 \
  --ioengine=io_uring --direct=1 --iodepth=8 --fsync=64 --verify=crc32c --time_based --runtime=600 --output=/tmp/fio.txt & fio=$!
written() { awk '{ print $7 }' "/sys/block/${dev##*/}/stat"; }
goes_on() { # until more is written
  local before n; before=$(written)
  for ((n = 0; n < 600; n++)); do [ "$(written)" -gt $((before + 400)) ] && return; sleep 0.2; done
  fail "nothing is written any more"
}
goes_on

say "handed over under the mounted file system"
on $A handover vz || fail "handover"
are Secondary Primary
goes_on
on $A status; on $B status
on $A secondary vz; code=$?; [ $code = 10 ] || fail "exit code $code instead of 10: the device is open"
on $B secondary vz; code=$?; [ $code = 10 ] || fail "exit code $code instead of 10: the peer forwards"

say "the old node's disk is serviced"
on $A detach vz || fail "detach"
goes_on
on $A attach vz || fail "attach"
in_sync
goes_on

say "and back"
on $B handover vz || fail "handover back"
are Primary Secondary
goes_on

say "the new Primary is killed"
on $A handover vz || fail "handover"
are Secondary Primary
goes_on
kill -KILL $beta; wait $beta 2>/dev/null
on $A wait vz connected --timeout 1s >/dev/null 2>&1
on $A primary vz || fail "primary"
goes_on
start beta; ready $B; in_sync
[ "$(role $A)" = Primary ] || fail "alpha isn't Primary"
goes_on

for signal in KILL TERM; do
  say "the daemon that forwards gets SIG$signal, and the next one can't reach the new Primary"
  on $A handover vz || fail "handover"
  are Secondary Primary
  goes_on
  kill -STOP $beta
  kill -$signal $alpha; wait $alpha 2>/dev/null
  start alpha; ready $A
  # Longer than it waits for a peer before it goes on alone with a device that another daemon left behind (net.timeout).
  sleep 9
  [ "$(role $A)" = Secondary ] || fail "alpha is Primary by itself, and so is beta"
  on $A status --json | grep -q '"device_left_behind":true' || fail "nothing tells that requests wait"
  kill -CONT $beta
  in_sync
  [ "$(role $B)" = Primary ] || fail "beta isn't Primary any more"
  on $B handover vz || fail "handover back"
  are Primary Secondary
  goes_on
done

say "the end: the device is closed where it was opened"
on $A handover vz || fail "handover"
kill -INT $fio; wait $fio; grep -E 'err=|verify' /tmp/fio.txt
grep -q 'err= 0' /tmp/fio.txt || fail "fio saw an error"
sync && umount /vz || fail "umount"
for ((n = 0; n < 60; n++)); do [ -b "$dev" ] || break; sleep 1; done
[ ! -b "$dev" ] || fail "alpha's device is still there"
# The link by-res went with alpha's device, whose it was last.
there=$(on $B status --json | sed 's/.*"device":"\([^"]*\)".*/\1/'); [ -b "$there" ] && fsck.ext4 -fn "$there" >/tmp/fsck.txt 2>&1 || { fail "fsck on beta's $there"; cat /tmp/fsck.txt; }
on $B secondary vz || fail "secondary"
on $A down vz && on $B down vz || fail "down"
kill $alpha $beta; wait $alpha $beta
equal_disks $D0 $D1 || fail "the disks differ"
clean_kernel_log
end

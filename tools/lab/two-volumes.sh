#!/bin/bash
# A resource with two volumes, both mounted. The Primary's daemon dies under a load on both: both go on. Then it dies where this node has gone
# on alone, and the next daemon finds but one of its two disks: what was answered may be on the other alone, so nobody is promoted on
# the peer's data; the operator's 'repctl attach' has both mounts go on.
#
#   cargo xtask guest -t 900 -d 512M -d 512M -d 128M -d 128M -e DEVICE=nbd tools/lab/two-volumes.sh
#
# DEVICE  ublk (default) or nbd
set -u
SECOND0=/dev/lab/d2 SECOND1=/dev/lab/d3
. ./pair.sh
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
zero=$(device 0) one=$(device 1)
[ -b "$zero" ] && [ -b "$one" ] && [ "$zero" != "$one" ] || { fail "no two devices"; end; }
mkdir -p /vz1
mkfs.ext4 -qF "$zero" && mount "$zero" /vz && mkfs.ext4 -qF "$one" && mount "$one" /vz1 || { fail "no file systems"; end; }
note() { echo "$1" | tee /vz/"$1" >/vz1/"$1" && sync -f /vz /vz1; } # note NAME: on both
holds() { # holds NAME...: both have it, on their disks
  echo 3 >/proc/sys/vm/drop_caches
  local name; for name in "$@"; do [ "$(cat /vz/"$name" /vz1/"$name")" = "$(printf '%s\n%s' "$name" "$name")" ] || fail "'$name' isn't on both"; done
}
note before

say "the daemon is killed under a load on both"
fio --size=6M --rw=randrw --bs=4k --ioengine=io_uring --direct=1 --iodepth=4 --fsync=16 --verify=crc32c --max_latency=120s --output=/tmp/fio.txt \
  --name=zero --directory=/vz --name=one --directory=/vz1 & load=$!
sleep 2
kill -9 $alpha; wait $alpha 2>/dev/null; start alpha; ready $A; until_primary || fail "not Primary again"
wait $load || { fail "the load met an error"; cat /tmp/fio.txt; }
[ "$(device 0)-$(device 1)" = "$zero-$one" ] || fail "other devices"
on $A wait vz synced --timeout 300s || fail "not synced"
holds before

waits() { # waits NAME WORDS: a write of that name isn't answered, the log says what it waits for, the status these words
  (note "$1") & writer=$!
  for ((n = 0; n < 300; n++)); do grep -q "a disk of this node isn't attached" /out/alpha.log && break; sleep 0.1; done
  grep "comes up without a disk: volume 1" /out/alpha.log || fail "the log doesn't say which disk is missing"
  grep "a disk of this node isn't attached.*repctl attach vz" /out/alpha.log || fail "the log doesn't say what it waits for"
  sleep 8 # longer than a lone node is given to meet its peer
  on $A status | tee /tmp/status
  grep -q "$2" /tmp/status || fail "the status doesn't say what to do"
  is_primary && fail "Primary on the peer's data alone"
  kill -0 $writer || fail "a write was answered, or failed, by nobody"
}
comes_back() { # comes_back NAME...: the disk; both have all of these
  mv /dev/lab/away $SECOND0
  on $A attach vz/1 || fail "attach"
  until_primary || fail "not Primary after 'repctl attach'"
  wait $writer || fail "a request failed"
  on $A wait vz synced --timeout 300s || fail "not synced"
  holds "$@"
}

say "its daemon dies, and one of its disks isn't there for the next, which can't know what that one has taken alone"
kill -9 $alpha; wait $alpha 2>/dev/null; : >/out/alpha.log
mv $SECOND0 /dev/lab/away
start alpha; ready $A
waits first "requests wait for a disk of this node.*repctl attach vz.*repctl primary vz"
comes_back before first

say "the same after this node has gone on alone: the peer's disk lacks what was answered"
kill -9 $beta; wait $beta 2>/dev/null
note alone
kill -9 $alpha; wait $alpha 2>/dev/null; : >/out/alpha.log
mv $SECOND0 /dev/lab/away
start beta; ready $B; start alpha; ready $A
waits second "not to be promoted now:.*repctl attach vz"
comes_back before first alone second

say "the end"
umount /vz1 && fsck.ext4 -fn "$one" >/tmp/fsck.txt 2>&1 || { fail "fsck"; cat /tmp/fsck.txt; }
unmounted
taken_down $D0 $D1
equal_disks $SECOND0 $SECOND1 1 || fail "the second volume's disks differ"
end

#!/bin/bash
# What repd does all day, for a build that counts what it does (see "cargo xtask profiled"): over ublk and over the kernel's nbd the loads
# that are measured beside DRBD, and a resync of what was written apart. Each daemon writes down what it counted when it ends.
#
# SECS (a load, default 4)
set -u
export LLVM_PROFILE_FILE=/out/%p.profraw
PART=functions SECS=${SECS:-4}
. ./drbd-anchor.sh
. ./pair.sh
modprobe brd rd_nr=2 rd_size=196608
load() { # as "suite" calls it: CONFIG NAME DEVICE FIO-OPTIONS...
  local name=$2 dev=$3; shift 3
  fio --name="$name" --filename="$dev" --size=160M --direct=1 --ioengine=io_uring --time_based --runtime="$SECS" "$@" >/dev/null || fail "$name"
}
for DEVICE in ublk nbd; do
  say "$DEVICE"
  load_driver
  pair /dev/ram0 /dev/ram1 || { fail "no pair"; break; }
  suite ours "$(device)"
  on $B disconnect vz && load ours apart "$(device)" --rw=randwrite --bs=4k --iodepth=32
  on $B connect vz && on $A wait vz synced --timeout 120s || fail "no resync"
  taken_down /dev/ram0 /dev/ram1
done
exit $failed

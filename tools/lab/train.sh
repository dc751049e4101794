#!/bin/bash
# What repd does all day, for a build that counts what it does (see "cargo xtask profiled"): writes and reads of a client over ublk and
# over the kernel's nbd, few and many at a time, small and large, with and without flushes, and a resync of what was written apart.
# Each daemon writes down what it counted when it ends.
#
# SECS (a load, default 4)
set -u
export LLVM_PROFILE_FILE=/out/%p.profraw
modprobe brd rd_nr=2 rd_size=131072
. ./pair.sh
load() { fio --name=load --filename="$(device)" --direct=1 --ioengine=io_uring --time_based --runtime="${SECS:-4}" "$@" >/dev/null || fail "fio $*"; }
for DEVICE in ublk nbd; do
  say "$DEVICE"
  load_driver
  pair /dev/ram0 /dev/ram1 || { fail "no pair"; break; }
  load --rw=randwrite --bs=4k --iodepth=1
  load --rw=randwrite --bs=4k --iodepth=32
  load --rw=randwrite --bs=4k --iodepth=1 --fsync=1
  load --rw=write --bs=128k --iodepth=8
  load --rw=randread --bs=4k --iodepth=1
  load --rw=randread --bs=4k --iodepth=32
  on $B disconnect vz && load --rw=randwrite --bs=4k --iodepth=32 --io_size=16m
  on $B connect vz && on $A wait vz synced --timeout 120s || fail "no resync"
  taken_down /dev/ram0 /dev/ram1
done
exit $failed

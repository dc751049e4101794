#!/bin/bash
# The device is what users mount: it appears with the promotion, carries ext4 and xfs with verified load, isn't taken away
# while it is mounted, goes with the demotion, and leaves two equal disks.
#
#   cargo xtask guest -t 900 -d 512M -d 512M -o out -e DEVICE=nbd tools/lab/mount.sh
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device); echo "/dev/repd/by-res/vz/0 is $dev, $(blockdev --getsize64 "$dev") bytes"
[ -b "$dev" ] || fail "no device"
case $DEVICE-$dev in ublk-/dev/ublkb* | nbd-/dev/nbd*) ;; *) fail "not a device of $DEVICE" ;; esac
on $A status --json | grep -q "\"device\":\"$dev\"" || fail "the status doesn't name the device"
queue=/sys/block/${dev##*/}/queue
grep -H . "$queue"/{write_cache,fua,logical_block_size,max_sectors_kb}
# An answered write may be in a disk's cache: without these two the file system's barriers would never reach it.
[ "$(cat "$queue/write_cache")" = "write back" ] && [ "$(cat "$queue/fua")" = 1 ] || fail "flushes and FUA don't come through"

flushers $alpha $beta

for fs in ext4 xfs; do
  say "$fs at /vz"
  case $fs in ext4) mkfs.ext4 -qF "$dev" ;; xfs) mkfs.xfs -qf "$dev" ;; esac || fail "mkfs.$fs"
  mount "$dev" /vz || { fail "mount"; break; }
  fio --name=load --directory=/vz --size=24M --rw=randrw --bsrange=512-64k --bs_unaligned=0 --blockalign=512 \
    --ioengine=io_uring --direct=1 --iodepth=16 --fsync=64 --verify=crc32c --output=/tmp/fio.txt || fail "fio"
  grep -E 'err=|IOPS' /tmp/fio.txt
  rm -f /vz/load*
  # Everything a file system does, many at a time, what was written compared.
  stress-ng --temp-path /vz --timeout 10s --verify --hdd 1 --hdd-bytes 16M --iomix 1 --iomix-bytes 16M \
    --dentry 1 --rename 1 --link 1 --fallocate 1 --fallocate-bytes 16M >/tmp/stress.txt 2>&1 || { fail "stress-ng"; cat /tmp/stress.txt; }
  grep -E "successful|failed" /tmp/stress.txt
  tar -C /usr/share -cf /vz/many.tar . && mkdir /vz/many && tar -C /vz/many -xf /vz/many.tar && sync
  echo "demotion while mounted:"; on $A secondary vz >/tmp/said 2>&1; code=$?; cat /tmp/said
  [ $code = 10 ] || fail "exit code $code instead of 10"
  grep -q "mounted at /vz" /tmp/said || fail "the refusal doesn't say who has the device"
  rm -rf /vz/many; fstrim -v /vz || fail "fstrim"
  umount /vz || fail "umount"
  case $fs in ext4) fsck.ext4 -fn "$dev" ;; xfs) xfs_repair -n "$dev" ;; esac >/tmp/fsck.txt 2>&1 || { fail "fsck"; cat /tmp/fsck.txt; }
done

say "demotion"
on $A secondary vz || fail "secondary"
for ((n = 0; n < 100; n++)); do [ -b "$dev" ] || break; sleep 0.1; done
[ ! -b "$dev" ] && [ ! -e /dev/repd/by-res/vz/0 ] || fail "the device is still there"
on $A status
taken_down $D0 $D1
end

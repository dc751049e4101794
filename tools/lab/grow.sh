#!/bin/bash
# Both disks get larger, as logical volumes do, and the volume follows under a mounted, written ext4: at one word the device is
# larger, then the file system, and neither an old nor a new byte is wrong. Where the driver can't have a device grow (ublk
# before Linux 6.16), that is told, the mount goes on as it was, and the next promotion makes the device anew.
#
#   cargo xtask guest -d 512M -d 512M -e DEVICE=nbd tools/lab/grow.sh
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
modprobe dm_mod
BEFORE=196608 AFTER=327680 # sectors

table() { echo "0 $2 linear /dev/lab/d$1 0"; } # table DISK SECTORS
make() { dmsetup create "disk$1" --noudevsync --table "$(table "$1" $BEFORE)" && dmsetup mknodes "disk$1"; }
enlarge() { dmsetup suspend "disk$1" && dmsetup reload "disk$1" --table "$(table "$1" $AFTER)" && dmsetup resume "disk$1" --noudevsync; }
size() { blockdev --getsize64 "$1"; }
json() { on $A status --json; }
make 0 && make 1 || { fail "no disks that can grow"; end; }
pair /dev/mapper/disk0 /dev/mapper/disk1 || { fail "no pair"; end; }
dev=$(device) small=$(size "$(device)")
mkfs.ext4 -qF "$dev" && mount "$dev" /vz || { fail "no file system"; end; }
json | grep -o '"driver":{[^}]*}'
case $(json) in *'"grows":true'*) grows=yes ;; *'"grows":false'*) grows='' ;; *) fail "the status doesn't tell what the driver can do"; grows='' ;; esac
fill() { yes "$1" | head -c "$2" >"/vz/$1" && yes "$1" | head -c "$2" | sha256sum >"/tmp/$1.sum"; } # fill NAME BYTES
whole() { local f; for f in "$@"; do sha256sum <"/vz/$f" | cmp -s - "/tmp/$f.sum" || fail "$f isn't what was written"; done; }
fill before 16777216
drop() { sync -f /vz && echo 3 >/proc/sys/vm/drop_caches; } # what is read next is read from the device

say "only one disk is larger"
enlarge 0
on $A resize vz; code=$?; [ $code = 10 ] || fail "exit code $code instead of 10"
[ "$(size "$dev")" = "$small" ] || fail "the device grew all the same"

say "both are, and the file system is written to"
enlarge 1
for ((n = 0; n < 200; n++)); do json | grep -q can_grow_to_bytes && break; sleep 0.1; done
fio --name=load --directory=/vz --size=8M --rw=randrw --bs=4k --ioengine=io_uring --direct=1 --iodepth=8 --fsync=16 --verify=crc32c \
  --time_based --runtime=6 --output=/tmp/fio.txt & load=$!
sleep 1
on $A resize vz >/tmp/said 2>&1; code=$?; cat /tmp/said; on $A status
if [ "$grows" ]; then
  [ $code = 0 ] || fail "exit code $code"
else
  [ $code = 1 ] && grep -q DeviceNotGrown /tmp/said || fail "exit code $code where the driver can't have the device grow"
  on $A status | grep -q 'keeps its size:' || fail "the status doesn't tell that the device kept its size"
  [ "$(size "$dev")" = "$small" ] || fail "a size nobody could have told it: $(size "$dev")"
  on $A primary vz || fail "the device doesn't count as usable"
  echo "the daemon is killed: the next one takes a device over that is smaller than its volume"
  kill -9 $alpha; wait $alpha 2>/dev/null; start alpha; ready $A
  for ((n = 0; n < 600; n++)); do on $A status | grep -q 'alpha Primary.*Connected' && [ "$(device)" = "$dev" ] && break; sleep 0.1; done
  on $A status | grep -q 'keeps its size:' || fail "the next daemon doesn't tell that the device kept its size"
fi
wait $load || fail "the load met an error"
grep -E 'err=' /tmp/fio.txt
drop; whole before
if [ ! "$grows" ]; then
  umount /vz && on $A secondary vz && on $A primary vz && mount "$(device)" /vz || fail "no device anew"
  on $A status | grep -q 'keeps its size:' && fail "the status still tells of the former device"
fi
large=$(size "$(device)")
echo "the device had $small bytes and has $large"
[ "$large" -gt $((BEFORE * 512)) ] && json | grep -q "\"size_bytes\":$large" || fail "the device hasn't the volume's size"

say "the file system follows, mounted as it is"
resize2fs "$(device)" 2>&1 | tail -n 1
fill after 88080384 || fail "there is no room for what didn't fit before"
drop; whole before after; df -k /vz | tail -n 1
on $A wait vz synced --timeout 300s || fail "not synced"

say "the end"
unmounted
taken_down /dev/mapper/disk0 /dev/mapper/disk1
dmsetup remove --noudevsync disk0 && dmsetup remove --noudevsync disk1 || fail "somebody still has the disks open"
end

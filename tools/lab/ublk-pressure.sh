#!/bin/bash
# Hardly any memory, and far more dirty pages than there is room for: freeing memory means writing to our own device, so the
# daemons must never wait for memory themselves (R36). Both nodes run in the one small machine.
#
#   cargo xtask guest -t 900 -m 512 -d 300M -d 300M -o out tools/lab/ublk-pressure.sh
set -u
. ./pair.sh
modprobe ublk_drv
pair /dev/lab/d0 /dev/lab/d1 || { fail "no pair"; end; }
dev=$(device)
grep -E 'VmLck|VmRSS' /proc/$alpha/status
mkfs.ext4 -qF "$dev" && mount "$dev" /vz || { fail "no file system"; end; }

hogs=0
say "memory taken until little is left"
mkdir /tmp/hog && mount -t tmpfs -o size=100% hog /tmp/hog
while [ "$(awk '/MemAvailable/{print int($2 / 1024)}' /proc/meminfo)" -gt 90 ]; do
  head -c 8M /dev/urandom >/tmp/hog/$((++hogs)) || break
done
grep -E 'MemTotal|MemAvailable' /proc/meminfo

say "buffered writes of far more than that"
t0=$(now_ms)
for n in 1 2; do head -c 50M /dev/urandom | tee /vz/$n | sha256sum >/tmp/sum.$n & writers="${writers:-} $!"; done
for pid in $writers; do wait "$pid" || fail "a writer failed"; done
sync -f /vz; echo "100 MiB in $(($(now_ms) - t0)) ms"
echo 3 >/proc/sys/vm/drop_caches
for n in 1 2; do [ "$(sha256sum </vz/$n)" = "$(cat /tmp/sum.$n)" ] || fail "file $n differs"; done
dmesg | grep -i 'out of memory' && fail "the kernel killed somebody"
umount /vz && fsck.ext4 -fn "$dev" >/tmp/fsck.txt 2>&1 || { fail "fsck"; cat /tmp/fsck.txt; }
on $A secondary vz && on $A down vz && on $B down vz || fail "down"
kill $alpha $beta; wait $alpha $beta
equal_disks /dev/lab/d0 /dev/lab/d1 || fail "the disks differ"
clean_kernel_log
end

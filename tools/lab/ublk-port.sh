#!/bin/bash
# The ublk port by itself (crates/rep-ublk, its example server over a file): a mounted, verified file system lives through
# its server's SIGKILLs.
#
#   cargo build -p rep-ublk --example file
#   tools/lab/guest-run tools/lab/ublk-port.sh target/debug/examples/file
set -u
modprobe ublk_drv || exit 1
truncate -s 256M /tmp/disk
mkfifo /tmp/hold; exec 7<>/tmp/hold     # the server goes on for as long as somebody holds this

serve() { # starts the server and waits until it answers
  local t0; t0=$(date +%s%N)
  : >/tmp/log; file /tmp/disk <&7 >/tmp/log 2>&1 & server=$!
  for ((n = 0; n < 400; n++)); do grep -q ready /tmp/log && break; sleep 0.05; done
  echo "$(cat /tmp/log) after $((($(date +%s%N) - t0) / 1000000)) ms"
}
serve
mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /vz || exit 1
fio --name=load --directory=/vz --size=32M --rw=randwrite --bs=4k --ioengine=io_uring --direct=1 --iodepth=16 \
  --verify=crc32c --do_verify=1 --time_based --runtime=12 --output=/tmp/fio.txt & load=$!
for _ in 1 2 3; do sleep 2; kill -9 $server; wait $server 2>/dev/null; serve; done
wait $load; failed=$?
grep -E 'err=|IOPS' /tmp/fio.txt
umount /vz && fsck.ext4 -fn /dev/ublkb0 >/tmp/fsck.txt 2>&1 || { failed=1; cat /tmp/fsck.txt; }
if dmesg | grep -E 'I/O error|Buffer I/O'; then failed=1; fi
exit $failed

#!/bin/bash
# Somebody ends the device with the kernel's own tool while it is mounted: requests fail, as was asked for, the status says why,
# a restarted daemon doesn't take the dead device for one that was left behind, and a new promotion makes another.
#
#   cargo xtask guest -d 512M -d 512M -o out tools/lab/nbd-ended.sh
set -u
DEVICE=nbd
. ./pair.sh
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
mkfs.ext4 -qF "$dev" && mount "$dev" /vz && echo kept >/vz/file && sync -f /vz || { fail "no file system"; end; }

say "nbd-client -d"
nbd-client -d "$dev"
for ((n = 0; n < 100; n++)); do on $A status | grep -q 'took the device away' && break; sleep 0.1; done
on $A status; on $A status | grep -q 'took the device away' || fail "the status doesn't say so"
[ ! -e /dev/repd/by-res/vz/0 ] || fail "the name still stands"
echo lost 2>/dev/null >/vz/file; sync -f /vz 2>/dev/null && fail "a dead device takes writes"

say "a restart of the daemon"
kill -9 $alpha; wait $alpha 2>/dev/null; start alpha; ready $A; on $A wait vz synced --timeout 60s
on $A status; on $A status | grep -q 'alpha Secondary' || fail "alpha promoted itself for a dead device"
grep -q 'was left behind' /out/alpha.log && fail "the dead device was taken for one left behind"

say "a promotion"
on $A primary vz && new=$(device) || fail "primary"
[ "$new" != "$dev" ] && echo "another device: $new" || fail "$new is the dead one"
umount -l /vz; sleep 1
mount "$new" /vz && [ "$(cat /vz/file)" = kept ] || fail "the data aren't there"
umount /vz && fsck.ext4 -fn "$new" >/tmp/fsck.txt 2>&1 || { fail "fsck"; cat /tmp/fsck.txt; }
on $A secondary vz && on $A down vz && on $B down vz || fail "down"
for ((n = 0; n < 100; n++)); do [ ! -b "$dev" ] && [ ! -b "$new" ] && break; sleep 0.1; done
ls /dev/nbd* | tail -n 3; [ ! -b "$dev" ] && [ ! -b "$new" ] || fail "a device is still there"
end

#!/bin/bash
# A device was left behind, and there is no way for this node to be Primary: what has it open waits for ever. The operator gives the
# device up: what waits fails, it can be unmounted, and the next promotion makes another with all that was answered.
#
#   cargo xtask guest -d 512M -d 512M -e DEVICE=nbd tools/lab/given-up.sh
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
mkfs.ext4 -qF "$dev" && mount "$dev" /vz && echo kept >/vz/kept && sync -f /vz || { fail "no file system"; end; }
waits() { # a write that nobody answers
  (echo late >"/vz/$1" && sync "/vz/$1") 2>/dev/null & writer=$!
  sleep 3; kill -0 $writer 2>/dev/null || fail "a write was answered, or failed, by nobody"
}

say "given up while it is served"
on $A down vz --give-up-device; code=$?; [ $code = 10 ] || fail "exit code $code instead of 10"
echo more >/vz/more && sync -f /vz || fail "the device is gone"

say "the peer's node is lost, this daemon dies, and the next isn't allowed to go on alone"
cp /run/repd.toml /run/kept.toml
sed -i 's/^protocol.*/&\nfencing = "resource-and-stonith"/' /run/repd.toml
kill -9 $beta $alpha; wait $beta $alpha 2>/dev/null; : >/out/alpha.log; start alpha; ready $A
waits late
on $A status | grep "a device was left behind: its requests wait" || fail "the status doesn't say what waits"

say "given up"
on $A down vz --give-up-device >/tmp/said 2>&1 || fail "down"
cat /tmp/said; grep -q "given up: $dev" /tmp/said || fail "it doesn't say what was given up"
wait $writer && fail "a write succeeded that nobody has taken"
on $A status | grep -q "left behind" && fail "the status still says that something waits"
umount /vz || fail "umount"
for ((n = 0; n < 100; n++)); do [ ! -b "$dev" ] && break; sleep 0.1; done
[ ! -b "$dev" ] || fail "$dev is still there"

say "as if nothing had been"
cp /run/kept.toml /run/repd.toml
kill -9 $alpha; wait $alpha 2>/dev/null; start alpha; start beta; ready $A; ready $B
on $A wait vz connected --timeout 60s && on $A primary vz && mount "$(device)" /vz || fail "no device anew"
[ "$(cat /vz/kept /vz/more)" = "$(printf 'kept\nmore')" ] || fail "what was answered isn't there"

say "its resource is down, and its disk isn't there"
kill -9 $alpha; wait $alpha 2>/dev/null; mv $D0 /dev/lab/away; start alpha; ready $A
waits later
on $A down vz --give-up-device || fail "down"
wait $writer && fail "a write succeeded that nobody has taken"
umount /vz || fail "umount"
mv /dev/lab/away $D0
on $A up vz && on $A wait vz connected --timeout 60s && on $A primary vz && mount "$(device)" /vz || fail "no device anew"
[ "$(cat /vz/kept)" = kept ] || fail "what was answered isn't there"

say "the end"
dmesg | grep -Eq "I/O error" || fail "the kernel tells of no error, though requests were failed"
dmesg -C # which is as it must be here
on $A wait vz synced --timeout 300s || fail "not synced"
unmounted
taken_down $D0 $D1
end

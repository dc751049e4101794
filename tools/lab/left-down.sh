#!/bin/bash
# A daemon dies under a mounted file system, and the next one doesn't bring the resource up: it isn't to (start = "down"), or its
# disk isn't there. The status says what waits; 'repctl up' alone, later, has the mount go on, without any 'repctl primary'.
#
#   cargo xtask guest -t 900 -d 512M -d 512M -e DEVICE=nbd tools/lab/left-down.sh
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
mkfs.ext4 -qF "$dev" && mount "$dev" /vz && echo before >/vz/before && sync -f /vz || { fail "no file system"; end; }
says_so() { on $A status --json | grep -q '"device_left_behind":true'; }

left_down() { # left_down NAME COMMAND...: the daemon has started, the resource is down until the command
  on $A status | tee /tmp/status
  grep -q "a device was left behind.*repctl up vz" /tmp/status && says_so || fail "the status doesn't say what waits"
  grep -q "a device was left behind" /out/alpha.log || fail "nor does the log"
  (echo "$1" >"/vz/$1" && sync "/vz/$1") & local writer=$!
  sleep 2; kill -0 $writer || fail "a write was answered, or failed, by nobody"
  "${@:2}"
  until_primary || fail "not Primary after 'repctl up'"
  wait $writer || fail "a request failed"
  says_so && fail "the status still says that something waits"
  echo 3 >/proc/sys/vm/drop_caches
  [ "$(cat /vz/before /vz/"$1")" = "$(printf 'before\n%s' "$1")" ] || fail "the files aren't what was written"
  [ "$(device)" = "$dev" ] || fail "another device"
  on $A wait vz synced --timeout 300s || fail "not synced"
}

say 'the next daemon is not to bring it up (start = "down")'
cp /run/repd.toml /run/kept.toml
sed -i 's/^protocol.*/&\nstart = "down"/' /run/repd.toml
kill -9 $alpha; wait $alpha 2>/dev/null; : >/out/alpha.log; start alpha; ready $A
left_down not-to on $A up vz

say "its disk isn't there"
cp /run/kept.toml /run/repd.toml
kill -9 $alpha; wait $alpha 2>/dev/null; : >/out/alpha.log
disk=$(readlink -f $D0); mv $D0 /dev/lab/away
start alpha; ready $A
for ((n = 0; n < 300; n++)); do grep -q "stays down" /out/alpha.log && break; sleep 0.1; done
# Once it has given up; then the way back is the disk's, and 'up'.
for ((n = 0; n < 100; n++)); do says_so && break; sleep 0.1; done
comes_back() { mv /dev/lab/away $D0 && [ "$(readlink -f $D0)" = "$disk" ] && on $A up vz; }
left_down no-disk comes_back

say "the end"
unmounted
taken_down $D0 $D1
end

#!/bin/bash
# The Primary's daemon is killed again and again under a mounted, written ext4. Nothing that has it open notices anything but a
# pause: requests in flight come back to the next daemon (R35).
#
#   cargo xtask guest -t 1200 -d 512M -d 512M -o out -e DEVICE=nbd -e KILLS=20 tools/lab/kills.sh
#
# DEVICE  ublk (default) or nbd
# KILLS   how often (default 20)
# ALONE   from which kill on the peer is dead too (default: none)
set -u
. ./pair.sh
KILLS=${KILLS:-20} ALONE=${ALONE:-}
load_driver
pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
mkfs.ext4 -qF "$dev" && mount "$dev" /vz || { fail "no file system"; end; }

primary() { # until alpha is Primary again
  local n; for ((n = 0; n < 1200; n++)); do
    on $A status 2>/dev/null | grep -q 'alpha Primary' && [ "$(device)" = "$dev" ] && return; sleep 0.05; done
  fail "alpha isn't Primary again"; return 1
}

crashes() { grep -c 'crashed as Primary' /out/alpha.log; }
restart() { # as an upgrade does it: what is under way is answered first, nothing is left to be resynced
  on $A wait vz synced --timeout 300s || { fail "not synced"; return 1; }
  local before; before=$(crashes)
  kill -TERM $alpha; t0=$(now_ms); wait $alpha || fail "alpha ended with $?"
  left=$(($(now_ms) - t0)); start alpha; primary
  echo "a planned restart: the daemon ended within $left ms, Primary again after $(($(now_ms) - t0)) ms"
  [ "$(crashes)" = "$before" ] || fail "a planned restart was a crash"
  on $A wait vz synced --timeout 300s || fail "not synced after a planned restart"
}

say "$KILLS kills under load"
# Round after round until it is told to stop; each reads back what it wrote and compares checksums.
load() {
  rounds=0 stall=0
  while [ ! -e /tmp/stop ]; do
    fio --name=load --directory=/vz --size=6M --rw=randrw --bs=4k --ioengine=io_uring --direct=1 --iodepth=8 --fsync=16 \
      --verify=crc32c --max_latency=120s --output-format=json --output=/tmp/fio.txt || { cat /tmp/fio.txt; exit 1; }
    rounds=$((rounds + 1)) t=$(awk '/"lat_ns"/ { f = 1 } f && /"max"/ { gsub(/[^0-9]/, "", $3); if ($3 > m) m = $3; f = 0 } END { printf "%d", m / 1e6 }' /tmp/fio.txt)
    stall=$((t > stall ? t : stall))
  done
  echo "$rounds rounds of load, every block verified; the longest any request waited: $stall ms"
}
load & load=$!
longest=0
for ((kill = 1; kill <= KILLS; kill++)); do
  sleep 2
  kill -0 $load 2>/dev/null || { fail "the load ended"; break; }
  if [ "$ALONE" = $kill ]; then
    restart; kill -9 $beta; wait $beta 2>/dev/null; echo "beta is dead"
  fi
  kill -9 $alpha; t0=$(now_ms); wait $alpha 2>/dev/null
  start alpha; primary || break
  took=$(($(now_ms) - t0)); longest=$((took > longest ? took : longest))
  echo "kill $kill: Primary again after $took ms"
done
[ -n "$ALONE" ] || restart
touch /tmp/stop; wait $load || fail "the load met an error"
echo "longest time without a Primary: $longest ms"

echo "still here" >/vz/note && sync -f /vz/note && [ "$(cat /vz/note)" = "still here" ] || fail "the mount is dead"

say "the end"
flushers $alpha # one that took its device over from a dead one
unmounted
if [ -n "$ALONE" ]; then start beta; ready $B; fi
on $A wait vz synced --timeout 300s || fail "not synced"
taken_down $D0 $D1
end

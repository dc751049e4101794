#!/bin/bash
# One node of two machines; "two-guests" runs it three times. Files are written, synced and only then told, one after
# another, so whoever listens knows what must still be there when this machine has lost its power.
#
# PART  first: alpha, Primary, writes until it is switched off
#       other: beta, takes over when alpha is gone, writes on, gives back when alpha has everything
#       again: alpha, back from the dead: is filled, then Primary again
set -u
ALPHA_ADDRESS=10.9.0.2:7788 BETA_ADDRESS=10.9.0.1:7788
. ./pair.sh
node=alpha run=$A; [ "$PART" != other ] || node=beta run=$B
me() { on $run "$@"; }
peer_is() { me status --json | grep -q "\"peer\":{\"name\":\"[a-z]*\",\"role\":\"$1\""; }
until_so() { local n; for ((n = 0; n < 1200; n++)); do "$@" && return; sleep 0.1; done; fail "waited in vain for: $*"; finish; }
content() { yes "file $1, written by $2" | head -c 262144; }
write_file() { content "$1" "$2" >"/vz/$2-$1" && sync "/vz/$2-$1" && sync -f /vz || { fail "writing $2-$1"; finish; }; }
whole() { # whole WRITER: counts its files, each must hold what it held, none may be missing below the last
  local n; for ((n = 1; ; n++)); do
    [ -e "/vz/$1-$n" ] || break
    [ ! -s "/vz/$1-$n" ] && [ ! -e "/vz/$1-$((n + 1))" ] && break   # the one that was being written
    content $n "$1" | cmp -s - "/vz/$1-$n" || { [ -e "/vz/$1-$((n + 1))" ] && fail "$1-$n isn't what was written"; break; }
  done
  echo "WHOLE $1 $((n - 1))"
}
finish() { [ $failed = 0 ] || { tail -n 30 /out/$node.log; me status; dmesg | tail -n 15; }; exit $failed; }
mounted() { me primary vz --timeout 60s && echo "BYTES $(blockdev --getsize64 "$(device)")" && mount "$(device)" /vz || { fail "no device to mount"; finish; }; }

load_driver
configure /dev/lab/d0 /dev/lab/d0
[ "$PART" = again ] || create_md $node || fail "create-md"
start $node; ready $run || finish
me wait vz connected --timeout 200s || { fail "no connection"; finish; }

case $PART in
  first)
    me new-generation vz --clear-bitmap && me primary vz && mkfs.ext4 -qF "$(device)" && mount "$(device)" /vz || { fail "no file system"; finish; }
    for ((n = 1; ; n++)); do write_file $n alpha; echo "SAFE $n"; done ;;
  other)
    echo "CONNECTED"
    until_so peer_is Primary
    until_so eval '! peer_is Primary'
    t0=$(now_ms); mounted; echo "alpha is gone; mounted here $(($(now_ms) - t0)) ms after that was seen"
    whole alpha
    for n in 1 2 3 4 5 6 7 8; do write_file $n beta; done
    echo "ON MY OWN"
    me wait vz connected --timeout 400s && me wait vz synced --timeout 200s || { fail "alpha didn't come back"; finish; }
    for n in 9 10; do write_file $n beta; done
    unmounted; [ $failed = 0 ] || finish; me secondary vz || fail "secondary"
    echo "GIVEN BACK"
    until_so peer_is Primary; until_so eval '! peer_is Primary' ;;
  again)
    me wait vz synced --timeout 300s || fail "not synced"
    echo "FILLED"
    until_so peer_is Secondary
    mounted; whole alpha; whole beta
    unmounted; [ $failed = 0 ] || finish; me secondary vz || fail "secondary" ;;
esac
me down vz || fail "down"
kill ${!node}; wait
clean_kernel_log
finish

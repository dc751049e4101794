#!/bin/bash
# All that a block device has to show, one scenario after another in one boot: a boot of the emulated machine takes longer
# than some of them.
#
#   cargo xtask guest -t 900 -d 512M -d 512M -d 128M -d 128M -e DEVICE=nbd tools/lab/device.sh tools/lab/{smoke,mount,no-cache,kills,left-down,two-volumes,switchover,handover,grow,pressure,given-up,nbd-ended}.sh
#
# DEVICE  ublk (default) or nbd
# SHORT   yes: what every 'cargo xtask test' runs, and no more
set -u
DEVICE=${DEVICE:-ublk} SHORT=${SHORT:-}; export DEVICE
# After each crash the extents that were being written are compared, up to the whole disk: where its size is of no matter,
# a small one has that done sooner.
small='D0=/dev/lab/d2 D1=/dev/lab/d3'
ran=''
run() { # run SCRIPT [NAME=VALUE]...
  local t0=$SECONDS code=0
  printf '\n--- %s over %s\n' "$*" "$DEVICE"
  env "${@:2}" "./$1" || code=$?
  echo "--- $* over $DEVICE: exit code $code after $((SECONDS - t0)) s"
  ran+="$((SECONDS - t0)) s $*, "
  [ $code = 0 ] || exit $code
  rm -f /tmp/stop /out/alpha.log /out/beta.log
}
run smoke.sh
run mount.sh
run no-cache.sh $small
if [ "$SHORT" ]; then
  # Twenty of the one, fewer of the other: both guests run side by side. The last with the peer dead as well.
  case $DEVICE in ublk) run kills.sh KILLS=20 ALONE=20 $small ;; nbd) run kills.sh KILLS=10 ALONE=10 $small ;; esac
  echo "$DEVICE, seconds each: ${ran%, }"
  exit 0
fi
run kills.sh KILLS=20 ALONE=17 $small
run left-down.sh $small
run two-volumes.sh
run switchover.sh $small
run handover.sh $small
run grow.sh
run pressure.sh
run given-up.sh $small
# Last, because it makes errors that the others look for in the kernel's log, or leaves a device that never answers again.
[ "$DEVICE" != nbd ] || run nbd-ended.sh $small
echo "$DEVICE, seconds each: ${ran%, }"
[ "$DEVICE" != ublk ] || run pressure.sh CONTROL=unlocked

#!/bin/bash
# All that a block device has to show, one scenario after another in one boot: a boot of the emulated machine takes longer
# than some of them.
#
#   cargo xtask guest -t 900 -d 512M -d 512M -e DEVICE=nbd tools/lab/device.sh tools/lab/{smoke,mount,kills,left-down,switchover,handover,grow,pressure,nbd-ended}.sh
#
# DEVICE  ublk (default) or nbd
set -u
DEVICE=${DEVICE:-ublk}; export DEVICE
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
run kills.sh
run left-down.sh
run switchover.sh
run handover.sh
run grow.sh
run pressure.sh
# Last, because it makes errors that the others look for in the kernel's log, or leaves a device that never answers again.
[ "$DEVICE" != nbd ] || run nbd-ended.sh
echo "$DEVICE, seconds each: ${ran%, }"
[ "$DEVICE" != ublk ] || run pressure.sh CONTROL=yes

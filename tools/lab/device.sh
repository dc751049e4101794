#!/bin/bash
# All that a block device has to show, one scenario after another in one boot: a boot of the emulated machine takes longer
# than some of them.
#
#   cargo xtask guest -t 900 -d 512M -d 512M -e DEVICE=nbd tools/lab/device.sh tools/lab/{mount,kills,nbd-ended,switchover}.sh
#
# DEVICE  ublk (default) or nbd
set -u
DEVICE=${DEVICE:-ublk}; export DEVICE
run() {
  local t0=$SECONDS code=0
  printf '\n--- %s over %s\n' "$1" "$DEVICE"
  "./$1" || code=$?
  echo "--- $1 over $DEVICE: exit code $code after $((SECONDS - t0)) s"
  [ $code = 0 ] || exit $code
  rm -f /tmp/stop /out/alpha.log /out/beta.log
}
run mount.sh
run kills.sh
run switchover.sh
# Last, because it makes errors that the others look for in the kernel's log.
[ "$DEVICE" != nbd ] || run nbd-ended.sh

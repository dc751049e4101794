#!/bin/bash
# Boots, loads the drivers the scenarios need, and says what they offer. Nothing else: where this fails, the lab is at
# fault and not what is tested in it.
#
#   cargo xtask guest tools/lab/smoke.sh
set -eu
modprobe ublk_drv
modprobe nbd nbds_max=4
modprobe drbd
[ -c /dev/ublk-control ]
[ -b /dev/nbd0 ]
grep -q '^version: 8' /proc/drbd
echo "lab: kernel $(uname -r), $(nproc) CPUs, ublk, nbd, $(sed -n '1s/ (.*//p' /proc/drbd | tr -d :)"

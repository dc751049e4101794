#!/bin/bash
# Ours over ublk beside the in-kernel DRBD 8.4 (protocol C), both mirrored over loopback, in one guest: the same loads, on
# RAM disks (BACKING=brd, the default) or virtio disks (BACKING=virtio), rounds in turns. Only the ratios mean anything.
#
#   cargo xtask guest -t 1800 -m 3072 -o out tools/lab/ublk-bench.sh tools/lab/drbd-anchor.sh
#   cargo xtask guest -t 1800 -d 300M -d 300M -d 300M -d 300M -e BACKING=virtio -o out tools/lab/ublk-bench.sh tools/lab/drbd-anchor.sh
#
# ROUNDS (default 2), SECS a load (default 6)
set -u
PART=functions BACKING=${BACKING:-brd}
. ./drbd-anchor.sh
wanted=$(declare -f pair) && eval "drbd_${wanted}"   # the name is used twice
. ./pair.sh
modprobe ublk_drv
case $BACKING in
  brd) modprobe brd rd_nr=4 rd_size=196608; disks=(/dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3) ;;
  virtio) disks=(/dev/lab/d0 /dev/lab/d1 /dev/lab/d2 /dev/lab/d3) ;;
esac
drbd_pair "${disks[0]}" "${disks[1]}" || exit 1
pair "${disks[2]}" "${disks[3]}" || { fail "no pair"; end; }
dev=$(device)
for target in /dev/drbd0 "$dev"; do dd if=/dev/zero of=$target bs=1M count=160 oflag=direct status=none; done
echo "round,config,load,iops,KiB/s,mean-lat-us,cpu-us-per-io,cpu-busy" | tee /out/bench.csv
for ((round = 1; round <= ROUNDS; round++)); do
  suite drbd /dev/drbd0
  suite ours "$dev"
done
echo
awk -F, 'NR > 1 { n[$2, $3]++; sum[$2, $3] += $4; if (!seen[$3]++) order[++loads] = $3 }
  END { printf("%-24s %10s %10s %8s\n", "load (mean IOPS)", "DRBD C", "ours", "ratio")
        for (i = 1; i <= loads; i++) { l = order[i]; d = sum["drbd", l] / n["drbd", l]; o = sum["ours", l] / n["ours", l]
          printf("%-24s %10.0f %10.0f %8.2f\n", l, d, o, d ? o / d : 0) } }' /out/bench.csv
on $A secondary vz && on $A down vz && on $B down vz || fail "down"
unpair
kill $alpha $beta; wait $alpha $beta
clean_kernel_log
end

#!/bin/bash
# Ours over ublk beside the in-kernel DRBD 8.4 (protocol C), both mirrored over loopback, in one guest: the same loads, on
# RAM disks (BACKING=brd, the default) or virtio disks (BACKING=virtio). Each load runs on the one and then on the other, and
# in every second round the other way round, so that what changes on the machine meanwhile meets both. What counts
# is a round's ratio; told is the median of the rounds' ratios, with the least and the greatest.
#
#   cargo xtask bench --guest                     runs it and keeps the table
#   cargo xtask guest -t 1800 -m 3072 -o out tools/lab/ublk-bench.sh tools/lab/drbd-anchor.sh
#   cargo xtask guest -t 1800 -d 300M -d 300M -d 300M -d 300M -e BACKING=virtio -o out tools/lab/ublk-bench.sh tools/lab/drbd-anchor.sh
#
# ROUNDS (default 3), SECS a load (default 6)
set -u
PART=functions BACKING=${BACKING:-brd} ROUNDS=${ROUNDS:-3}
. ./drbd-anchor.sh
wanted=$(declare -f pair) && eval "drbd_${wanted}"   # the name is used twice
wanted=$(declare -f load) && eval "drbd_${wanted}"
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
load() { # as "suite" calls it, for both: NAME is what counts, the device is theirs
  local name=$2; shift 3
  if [ $((round % 2)) = 1 ]; then
    drbd_load drbd "$name" /dev/drbd0 "$@"; drbd_load ours "$name" "$dev" "$@"
  else
    drbd_load ours "$name" "$dev" "$@"; drbd_load drbd "$name" /dev/drbd0 "$@"
  fi
}
for ((round = 1; round <= ROUNDS; round++)); do suite both -; done
awk -F, '
  function median(list, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
  }
  function of(config, what, l,   r, n) { n = 0; for (r = 1; r <= rounds; r++) if ((config, l, r) in iops) list[++n] = what == "iops" ? iops[config, l, r] : cpu[config, l, r]; return median(list, n) }
  NR > 1 { iops[$2, $3, $1] = $4; cpu[$2, $3, $1] = $7; if ($1 > rounds) rounds = $1; if (!seen[$3]++) order[++loads] = $3 }
  END {
    print "| load | DRBD 8.4 C, IOPS | ours over ublk, IOPS | ratio (least to greatest) | CPU µs an I/O: DRBD | ours |"
    print "|---|--:|--:|--:|--:|--:|"
    for (i = 1; i <= loads; i++) {
      l = order[i]; n = 0
      for (r = 1; r <= rounds; r++) if (("drbd", l, r) in iops && ("ours", l, r) in iops && iops["drbd", l, r] > 0) ratio[++n] = iops["ours", l, r] / iops["drbd", l, r]
      m = median(ratio, n)
      printf("| %s | %.0f | %.0f | %.2f (%.2f to %.2f) | %.0f | %.0f |\n", l, of("drbd", "iops", l), of("ours", "iops", l), m, ratio[1], ratio[n], of("drbd", "cpu", l), of("ours", "cpu", l))
    }
  }' /out/bench.csv >/out/table.md
echo; cat /out/table.md
on $A secondary vz && on $A down vz && on $B down vz || fail "down"
unpair
kill $alpha $beta; wait $alpha $beta
clean_kernel_log
end

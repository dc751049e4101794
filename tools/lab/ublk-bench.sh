#!/bin/bash
# Ours over ublk beside the in-kernel DRBD 8.4 (protocol C), both mirrored over loopback, in one guest: the same loads, on
# RAM disks (BACKING=brd, the default) or virtio disks (BACKING=virtio). Each load runs on the one and then on the other, and
# in every second round the other way round, so that what changes on the machine meanwhile meets both. What counts
# is a round's ratio; told is the median of the rounds' ratios, with the least and the greatest.
#
#   cargo xtask bench --guest                     runs it and keeps the table
#   cargo xtask bench --guest --bare              with a third one, that only mirrors (rep-ublk's example "bare_mirror")
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
configs=(drbd ours); [ -x ./bare_mirror ] && configs+=(bare)
case $BACKING in
  brd) modprobe brd rd_nr=$((2 * ${#configs[@]})) rd_size=196608; disks=(/dev/ram{0..5}) ;;
  virtio) disks=(/dev/lab/d{0..5}) ;;
esac
drbd_pair "${disks[0]}" "${disks[1]}" || exit 1
pair "${disks[2]}" "${disks[3]}" || { fail "no pair"; end; }
declare -A target=([drbd]=/dev/drbd0 [ours]=$(device))
if [ ${#configs[@]} = 3 ]; then
  export LOOK_US=2000 # as long as ours look for news where waking takes as long as here
  ./bare_mirror peer 127.0.0.1:7790 "${disks[5]}" & bare=$!
  mkfifo /tmp/bare-ends && sleep 0.5
  ./bare_mirror 127.0.0.1:7790 "${disks[4]}" </tmp/bare-ends >/tmp/bare-ready & bare+=" $!"
  exec 9>/tmp/bare-ends # the device goes when this is closed
  for ((n = 0; n < 100; n++)); do grep -q ready /tmp/bare-ready && break; sleep 0.1; done
  target[bare]=/dev/ublkb$(awk '{ print $2 }' /tmp/bare-ready)
fi
for config in "${configs[@]}"; do dd if=/dev/zero of="${target[$config]}" bs=1M count=160 oflag=direct status=none || fail "$config"; done
echo "round,config,load,iops,KiB/s,mean-lat-us,cpu-us-per-io,cpu-busy" | tee /out/bench.csv
load() { # as "suite" calls it, for all: NAME is what counts, the device is theirs
  local name=$2 n config; shift 3
  for ((n = 0; n < ${#configs[@]}; n++)); do
    config=${configs[$(((n + round - 1) % ${#configs[@]}))]}
    drbd_load $config "$name" "${target[$config]}" "$@"
  done
}
for ((round = 1; round <= ROUNDS; round++)); do suite both -; done
awk -F, -v bare=$((${#configs[@]} - 2)) '
  function median(list, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
  }
  function of(config, what, l,   r, n) { n = 0; for (r = 1; r <= rounds; r++) if ((config, l, r) in iops) list[++n] = what == "iops" ? iops[config, l, r] : cpu[config, l, r]; return median(list, n) }
  function ratios(config, l,   r, n, m, list) {
    for (r = 1; r <= rounds; r++) if (("drbd", l, r) in iops && (config, l, r) in iops && iops["drbd", l, r] > 0) list[++n] = iops[config, l, r] / iops["drbd", l, r]
    m = median(list, n)
    return sprintf("%.2f (%.2f to %.2f)", m, list[1], list[n])
  }
  NR > 1 { iops[$2, $3, $1] = $4; cpu[$2, $3, $1] = $7; if ($1 > rounds) rounds = $1; if (!seen[$3]++) order[++loads] = $3 }
  END {
    print "| load | DRBD 8.4 C, IOPS | ours over ublk, IOPS | ratio (least to greatest) | CPU µs an I/O: DRBD | ours |" (bare ? " bare mirror, IOPS | its ratio | CPU |" : "")
    print "|---|--:|--:|--:|--:|--:|" (bare ? "--:|--:|--:|" : "")
    for (i = 1; i <= loads; i++) {
      l = order[i]
      told = ratios("ours", l)
      printf("| %s | %.0f | %.0f | %s | %.0f | %.0f |", l, of("drbd", "iops", l), of("ours", "iops", l), told, of("drbd", "cpu", l), of("ours", "cpu", l))
      if (bare) printf(" %.0f | %s | %.0f |", of("bare", "iops", l), ratios("bare", l), of("bare", "cpu", l))
      print ""
    }
  }' /out/bench.csv >/out/table.md
echo; cat /out/table.md
on $A secondary vz && on $A down vz && on $B down vz || fail "down"
unpair
[ -z "${bare:-}" ] || { exec 9>&-; wait $bare; }
kill $alpha $beta; wait $alpha $beta
clean_kernel_log
end

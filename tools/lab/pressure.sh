#!/bin/bash
# Memory runs out while the device is the way to get it back: dirty pages of its file system wait to be written, and swap lies
# on it, too. A daemon whose own memory could be paged out to its own device, or that waited for memory to be freed, would
# stand still for ever (R36); so would one that needs a page to send a write while all that is left is the kernel's reserve.
#
#   cargo xtask guest -d 512M -d 512M -e DEVICE=nbd tools/lab/pressure.sh
#
# DEVICE   ublk (default) or nbd
# CONTROL  unlocked: the daemon may not lock its memory. The scenario's own test must find its memory on its own device, and the
#          device standing still; the guest is of no use after that and ends at once
#          ordinary (with ublk): its data threads may not run in real time. The device must stand still when memory runs out: exit
#          code 0, or 124 (out of time, -t 300) where even this script doesn't get the memory to tell; 1 if the device answered
set -u
. ./pair.sh
CONTROL=${CONTROL:-}
load_driver
G=/sys/fs/cgroup/daemons
[ -d $G ] || { mount -t cgroup2 none /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir $G; } || { fail "no cgroups"; end; }
case $CONTROL in
  unlocked) as='setpriv --bounding-set=-sys_resource,-ipc_lock' ;;
  ordinary) as='setpriv --bounding-set=-sys_nice' ;;
  '') as='' ;;
  *) fail "CONTROL=$CONTROL: unlocked or ordinary"; end ;;
esac
start() { # as pair.sh's, in a group of their own, so that the kernel can be asked for their memory
  (echo $BASHPID >$G/cgroup.procs; exec $as repd --config /run/repd.toml --node "$1" --runtime-dir "/run/$1" >>"/out/$1.log" 2>&1) &
  printf -v "$1" %s $!
}
kib() { awk -v what="$2:" '$1 == what { print $2 }' "/proc/$1/status"; }
paged_out() { echo $(($(kib $alpha VmSwap) + $(kib $beta VmSwap))); } # KiB of the daemons
# Takes whatever may be taken of their memory; fails where there is less than that, as is usual.
squeeze() { local n; for n in 1 2 3; do echo "256M swappiness=200" >$G/memory.reclaim; done 2>/dev/null; }
# Whatever syncs on a guest whose device stands still, as its end does, waits for that for ever.
cut() { echo $failed >/dev/lab/code; pass 1; echo b >/proc/sysrq-trigger; pass 60; }
# Seconds, without a program that would need memory.
mkfifo /run/nothing
pass() { read -rt "$1" <>/run/nothing; }

pair $D0 $D1 || { fail "no pair"; end; }
dev=$(device)
mkfs.ext4 -qF "$dev" && mount "$dev" /vz || { fail "no file system"; end; }
fallocate -l 224M /vz/swap && chmod 600 /vz/swap && mkswap -q /vz/swap && swapon /vz/swap || { fail "no swap on the device"; end; }
on $A status --json | grep -o '"memory_[a-z]*":[a-z]*'
echo "locked: alpha $(kib $alpha VmLck) KiB of $(kib $alpha VmRSS), beta $(kib $beta VmLck) KiB of $(kib $beta VmRSS)"

say "the kernel is asked to page the daemons out, to their own device"
squeeze >/dev/null 2>&1 & squeezing=$!   # who may never end doesn't keep this script's output open
for ((n = 0; n < 100; n++)); do [ "$(paged_out)" = 0 ] && kill -0 $squeezing 2>/dev/null || break; sleep 0.1; done
sleep 1
echo "paged out: $(paged_out) KiB"
if [ "$CONTROL" = unlocked ]; then
  on $A status --json --timeout 3s 2>/dev/null | grep -q '"memory_locked":true' && fail "the status calls it locked"
  [ "$(paged_out)" != 0 ] || fail "the control isn't one: nothing was paged out"
  dd if=/dev/zero of=/vz/stuck bs=4k count=1 oflag=direct status=none >/dev/null 2>&1 & writing=$!
  for ((n = 0; n < 100; n++)); do kill -0 $writing 2>/dev/null || break; sleep 0.1; done
  if kill -0 $writing 2>/dev/null; then echo "the device stands still: the control failed as it must"; else fail "the device still answers"; fi
  cut
fi
wait $squeezing
[ "$(paged_out)" = 0 ] || fail "the daemons' memory can be paged out"
on $A status --json | grep -q '"memory_locked":true' || fail "the status doesn't call it locked"
flushers $alpha $beta
reserve=true; [ "$CONTROL" != ordinary ] || reserve=false
on $A status --json | grep -q "\"memory_reserve\":$reserve" || fail "the status doesn't say that the reserve is open: $reserve"

say "memory runs out"
# Long before that nothing waits for its own dirty pages to be written.
echo 70 >/proc/sys/vm/dirty_ratio; echo 50 >/proc/sys/vm/dirty_background_ratio
available() { awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo; }
# All but 320 MiB goes out of reach. What is scattered has to be gathered first, and not all of it is at once.
for n in 1 2 3 4 5 6 7 8; do
  spare=$(($(available) - 320)); [ $spare -gt 4 ] || break
  echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory
  read -r have </proc/sys/vm/nr_hugepages; echo $((have + spare / 2)) >/proc/sys/vm/nr_hugepages
done
[ $spare -le 16 ] || fail "$spare MiB more than should be are in reach"
echo "available: $(available) MiB; now 384 MiB are wanted, and 144 MiB are written to the file system"
yes hog | head -c 402653184 >/dev/shm/hog & hog=$!
fill() { for name in one two three four five six; do yes $name | head -c 25165824 >/vz/$name; done; }
if [ "$CONTROL" ]; then
  chrt -rp 1 $$ # else it stands still as well, and can't tell
  # Again and again: whether it comes to it is a matter of who asks for the last page.
  (while fill; do yes hog | head -c 402653184 >/dev/shm/hog; done) &
  still=0 done_before=''
  for ((n = 0; n < 200 && still < 20; n++)); do
    read -ra io <"/sys/block/${dev##*/}/stat" # 0, 4: reads and writes that were done; 8: those that wait
    if [ "${io[8]}" != 0 ] && [ "${io[0]} ${io[4]}" = "$done_before" ]; then still=$((still + 1)); else still=0; fi
    done_before="${io[0]} ${io[4]}"
    pass 1
  done
  if [ $still = 20 ]; then
    echo "the device stands still, ${io[8]} requests wait: the control failed as it must"
  else
    fail "the control isn't one: memory ran out and the device still answered"
  fi
  cut
fi
fill
wait $hog || fail "no room for the hog"
squeeze
yes hog | head -c 402653184 | cmp - /dev/shm/hog || fail "what was paged out came back wrong"
sync -f /vz
awk '/^pswp|^pgscan_direct |^allocstall/ && $2 { print }' /proc/vmstat
[ "$(awk '$1 == "pswpout" { print $2 }' /proc/vmstat)" -gt 10000 ] || fail "there was no pressure: next to nothing was paged out"
[ "$(paged_out)" = 0 ] || fail "the daemons' memory was paged out"
for name in alpha beta; do grep -q 'memory is short' /out/$name.log || fail "$name saw no shortage"; done
kill -0 $alpha && kill -0 $beta || fail "a daemon is gone"
rm /dev/shm/hog; echo 0 >/proc/sys/vm/nr_hugepages
swapoff /vz/swap || fail "swapoff"
echo 3 >/proc/sys/vm/drop_caches
for name in one two three four five six; do yes $name | head -c 25165824 | cmp -s - /vz/$name || fail "$name isn't what was written"; done
on $A status

say "the end"
unmounted
taken_down $D0 $D1
end

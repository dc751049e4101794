# Sourced by the scenarios: two nodes, alpha and beta, of the resource "vz" in one guest, over two scratch disks.
# Both daemons are real; only the machines are one. "node.sh" has a node in each of two guests.

A=/run/alpha B=/run/beta
DEVICE=${DEVICE:-ublk}
D0=${D0:-/dev/lab/d0} D1=${D1:-/dev/lab/d1} # alpha's disk and beta's
SECOND0=${SECOND0:-} SECOND1=${SECOND1:-}     # those of a second volume, if there is to be one
failed=0

say() { printf '\n=== %s\n' "$*"; }
fail() { echo "FAILED: $*"; failed=1; }
load_driver() { case $DEVICE in ublk) modprobe ublk_drv ;; nbd) modprobe nbd ;; esac; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
on() { repctl --socket "$1/control.sock" "${@:2}"; } # on NODE'S-DIRECTORY VERB...

volume() { echo "volume.$1 = { disk = \"$2\", meta-disk = \"internal\", device = \"$DEVICE\" }"; } # volume NUMBER DISK
configure() { # configure DISK-OF-ALPHA DISK-OF-BETA
  mkdir -p $A $B
  cat >/run/repd.toml <<CONFIG
[resource.vz]
protocol = "C"
${LINKS:-}
[resource.vz.net]
connect-interval = "500ms"
[resource.vz.node.alpha]
address = "${ALPHA_ADDRESS:-127.0.0.1:7788}"
$(volume 0 "$1")${SECOND0:+
$(volume 1 "$SECOND0")}
[resource.vz.node.beta]
address = "${BETA_ADDRESS:-127.0.0.1:7789}"
$(volume 0 "$2")${SECOND1:+
$(volume 1 "$SECOND1")}
CONFIG
}
create_md() { # create_md alpha|beta
  repctl create-md vz --config /run/repd.toml --node "$1" --force >/dev/null
}
start() { # start alpha|beta: its process id is then in $alpha or $beta
  repd --config /run/repd.toml --node "$1" --runtime-dir "/run/$1" >>"/out/$1.log" 2>&1 &
  printf -v "$1" %s $!
}
ready() { # ready DIRECTORY: until the daemon answers
  local n; for ((n = 0; n < 600; n++)); do [ -S "$1/control.sock" ] && on "$1" status >/dev/null 2>&1 && return; sleep 0.1; done
  fail "$1 doesn't answer"; return 1
}
pair() { # a connected pair, both disks equal, alpha Primary with its device
  configure "$1" "$2" && create_md alpha && create_md beta || return 1
  start alpha && start beta && ready $A && ready $B || return 1
  on $A wait vz connected --timeout 60s && on $A new-generation vz --clear-bitmap && on $A primary vz
}
is_primary() { on $A status --json | grep -q '"name":"vz","role":"Primary"'; } # alpha
until_primary() { # alpha, which has taken its device over
  local n; for ((n = 0; n < 600; n++)); do is_primary && return; sleep 0.1; done
  return 1
}
device() { readlink -f "/dev/repd/by-res/vz/${1:-0}"; } # device [VOLUME]
# Both disks hold the same to the volume's last byte; what follows is each one's own metadata.
equal_disks() { # equal_disks DISK-OF-ALPHA DISK-OF-BETA [VOLUME]
  local size; size=$(repctl dump-md "vz/${3:-0}" --config /run/repd.toml --node alpha | awk '$1 == "agreed-bytes" { print $2 }')
  [ "${size:-0}" -gt 0 ] || { echo "the metadata don't tell the volume's size"; return 1; }
  cmp -n "$size" "$1" "$2" && echo "both disks are equal, all $size bytes"
}
# What the kernel says when a device fails, a task hangs, or a file system finds what it didn't write.
KERNEL_ERRORS='I/O error|Buffer I/O|critical|BUG:|Oops|blocked for more|EXT4-fs error|XFS.*([Cc]orruption|[Ss]hut ?down)|JBD2.*[Ee]rror'
clean_kernel_log() { ! dmesg | grep -E "$KERNEL_ERRORS" || fail "the kernel's log tells errors"; }
# Every thread of these daemons, and the kernel's workers for their rings: a data thread answers what is written, the control thread
# runs the handler that it waits for, and whoever holds a lock is waited for by both. No fork in the loop: those are slow here.
flushers() { # flushers PROCESS...
  local process task name stat words tasks=0
  for process in "$@"; do
    for task in "/proc/$process/task"/*; do
      read -r name 2>/dev/null <"$task/comm" && read -r stat 2>/dev/null <"$task/stat" || continue # it has just ended
      read -ra words <<<"${stat##*) }"
      tasks=$((tasks + 1))
      [ $((words[6] & 0x80000)) != 0 ] || fail "$name may wait for memory that only it could free" # PF_MEMALLOC_NOIO
    done
  done
  [ $tasks -ge $((3 * $#)) ] || fail "$tasks threads were looked at: each daemon has more than two"
  echo "$tasks threads, none of which waits for memory that only it could free"
}
unmounted() { umount /vz && fsck.ext4 -fn "$(device)" >/tmp/fsck.txt 2>&1 || { fail "fsck"; cat /tmp/fsck.txt; }; } # an ext4
taken_down() { # taken_down DISK-OF-ALPHA DISK-OF-BETA: alpha gives the device back, all ends, and nothing was wrong
  on $A secondary vz && on $A down vz && on $B down vz || fail "down"
  kill $alpha $beta; wait $alpha $beta
  equal_disks "$1" "$2" || fail "the disks differ"
  clean_kernel_log
}
end() {
  [ $failed = 0 ] || { tail -n 30 /out/alpha.log /out/beta.log; on $A status 2>&1; on $B status 2>&1; dmesg | tail -n 15; }
  exit $failed
}

#!/bin/bash
# A mounted file system goes to the other node and back, with the links that lead into it; what fails on the way is undone.
#
#   cargo xtask guest -d 512M -d 512M -e DEVICE=nbd tools/lab/switchover.sh
#
# beta's commands see mounts of their own, so that each node has a /vz to itself. /etc is one for both: the links are seen
# to come and go with the node that has them.
#
# DEVICE  ublk (default) or nbd
set -u
. ./pair.sh
load_driver
mkdir -p /etc/lxc && echo own >/etc/lxc/conf
LINKS='links = { "/etc/lxc" = "/vz/etc/lxc" }'
unshare -m --propagation private sleep 100000 & mounts=$!
pair $D0 $D1 || { fail "no pair"; end; }
mkfs.ext4 -qF "$(device)" && mount "$(device)" /vz && mkdir -p /vz/etc/lxc && echo shared >/vz/etc/lxc/conf || { fail "no file system"; end; }

switchover() { # switchover VIA: told on alpha
  on $A switchover vz --mount /vz --via "$1" --peer-socket $B/control.sock --config /run/repd.toml
}
there="nsenter -t $mounts -m"
at() { case $1 in "$B") $there "${@:2}" ;; *) "${@:2}" ;; esac; } # at NODE'S-DIRECTORY COMMAND...
role() { on "$1" status --json | sed 's/.*"name":"vz","role":"\([A-Za-z]*\)".*/\1/'; }
is() { # is PRIMARY SECONDARY WHAT-/etc/lxc/conf-HOLDS-THERE
  [ "$(role "$1")" = Primary ] && [ "$(role "$2")" = Secondary ] || fail "roles: $(role "$1") and $(role "$2")"
  [ "$(at "$1" findmnt -no SOURCE /vz)" = "$(device)" ] || fail "/vz isn't $(device) there"
  at "$2" findmnt /vz && fail "/vz is mounted on the other, too"
  [ "$(at "$1" cat /etc/lxc/conf)" = "$3" ] || fail "/etc/lxc holds $(at "$1" cat /etc/lxc/conf)"
}
repctl links vz make --config /run/repd.toml || fail "links"
is $A $B shared

say "alpha gives, beta takes"
switchover "$there" || fail "switchover"
is $B $A shared
at $B sh -c 'echo "written on beta" >/vz/etc/lxc/conf'

say "and back, told on alpha again"
switchover "$there" || fail "switchover back"
is $A $B "written on beta"

say "something uses the mount: all is as it was"
sleep 1000 </vz/etc/lxc/conf & user=$!
switchover "$there"; code=$?; [ $code = 1 ] || fail "exit code $code"
is $A $B "written on beta"
kill $user; wait $user 2>/dev/null

say "beta can't mount: all goes back"
printf '#!/bin/sh\ncase "$*" in *" switchover-step "*" mount "*) exit 1 ;; *) exec %s "$@" ;; esac\n' "$there" >/run/via; chmod 755 /run/via
switchover /run/via >/tmp/said 2>&1; code=$?; cat /tmp/said
[ $code = 1 ] && grep -q "all is as it was" /tmp/said || fail "exit code $code"
is $A $B "written on beta"

say "the end"
repctl links vz remove --config /run/repd.toml || fail "links"
[ "$(cat /etc/lxc/conf)" = own ] && [ ! -e /etc/lxc.repd-aside ] || fail "what stood at /etc/lxc isn't back"
unmounted
on $A primary vz --wait-device || fail "a Primary isn't promoted once more"
kill $mounts
taken_down $D0 $D1
end

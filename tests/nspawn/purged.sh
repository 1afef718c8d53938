# Reboot and removal; part of run.sh.
step "Rebooted"
check "it runs" within systemctl start pi0rtd
reboot
is_active() { [ "$(property ActiveState)" = active ]; }
eventually "the daemon is back" 60 is_active
check "a controller moves" as arm controller --seconds 1

step "Purged"
check "packages are purged" within apt-get purge --yes --quiet pi0rtd libpi0rt0 libpi0rt-dev
check "no user and no group" within sh -c '! getent passwd pi0rt && ! getent group pi0rt'
nothing_left() {
    within rm /usr/local/bin/controller
    files >"$dir/after"
    diff "$dir/before" "$dir/after"
}
check "nothing is left" nothing_left
check "no unit is left" within sh -c '! systemctl list-units --all --plain --no-legend "pi0rt*" | grep .'
check "nothing has failed" nothing_failed

# Installation, start, and access; part of run.sh.
step "Installing"
all_packages() { within sh -ec 'apt-get install --yes --quiet --no-install-recommends "$@" /root/packages/*.deb 2>&1' sh "$@"; }
check "packages install" all_packages
check "user and group pi0rt are there" within sh -ec 'getent passwd pi0rt && getent group pi0rt'
check "the service and its socket are enabled" within systemctl is-enabled --quiet pi0rtd.service pi0rtd.socket
check "the socket is the group's, and its directory nobody else's" within sh -ec \
    'test "$(stat -c "%A %U %G" /run/pi0rt/pi0rt.sock /run/pi0rt | tr "\n" ,)" = "srw-rw---- pi0rt pi0rt,drwxr-x--- pi0rt pi0rt,"'
nothing_failed() { [ -z "$(within systemctl list-units --failed --plain --no-legend)" ] || { within systemctl list-units --failed; return 1; }; }
unconfigured() {
    nothing_failed && [ "$(property ActiveState)" = inactive ] &&
        [ "$(property ConditionResult)$(property Result)" = "noexec-condition" ] && journal | grep 'not started: no checkpoint in \[policy\] of /etc/pi0rt/pi0rtd.toml'
}
check "without a checkpoint it is not started, says so, and has not failed" unconfigured

step "Starting"
checkpoint() {
    as pi0rt pi0rt synth --preset tiny --out /var/lib/pi0rt/checkpoint
    within sed -i 's|^#checkpoint = .*|checkpoint = "/var/lib/pi0rt/checkpoint"|' /etc/pi0rt/pi0rtd.toml
    within sed -i 's|^#control_rate_hz = .*|control_rate_hz = 50|' /etc/pi0rt/pi0rtd.toml
    within grep -q '^checkpoint = "/var/lib/pi0rt/checkpoint"' /etc/pi0rt/pi0rtd.toml
    within grep -q '^control_rate_hz = 50' /etc/pi0rt/pi0rtd.toml
}
check "a checkpoint, and two lines of the configuration" checkpoint
check "pi0rtd --check-config" within pi0rtd --check-config
check "it starts" within systemctl start pi0rtd
check "it is ready" test "$(property ActiveState) $(property SubState)" = "active running"
printf '      status: %s\n' "$(property StatusText)"
check "it runs as pi0rt" test "$(within ps -o user= -C pi0rtd)" = pi0rt
nothing_for_all() {
    local found
    found=$(within find /run/pi0rt /var/lib/pi0rt /var/cache/pi0rt /etc/pi0rt /dev/shm \( -perm -o+w -a ! -type l -a ! -path /dev/shm \) -print)
    [ -z "$found" ] || { echo "$found"; return 1; }
}
check "nothing of it can be written to by everybody" nothing_for_all
exposure() {
    local is
    is=$(within systemd-analyze security --no-pager pi0rtd.service | sed -n 's/.*Overall exposure level for pi0rtd.service: \([0-9.]*\).*/\1/p')
    echo "exposure is $is, expected at most 1.0"
    awk -v is="$is" 'BEGIN { exit !(is != "" && is <= 1.0) }'
}
check "exposure of what is loaded is at most 1.0" exposure

step "Who may use it"
compile() {
    within usermod --append --groups pi0rt arm
    # By the compile line at the start of each.
    as arm sh -ec 'cd /home/arm
        cp /usr/share/doc/libpi0rt-dev/examples/controller.c /usr/local/src/across.c .
        for program in controller across; do
            eval "$(sed -n "1s|^/\* ||p" $program.c) -Werror"
        done'
    within install -m 755 /home/arm/controller /usr/local/bin/controller
}
check "a controller compiles against the installed library" compile
check "one in the group moves" as arm controller --seconds 2
printf '      %s\n' "$(as arm controller --seconds 2 | sed -n '3p')"
outsider() {
    local said
    ! said=$(as guest controller --seconds 1 2>&1) || { echo "it was served"; return 1; }
    echo "$said"
    grep -q 'Permission denied' <<<"$said"
}
check "one outside the group is refused" outsider
check "pi0rt status, health and doctor work in the group" as arm sh -c 'pi0rt status && pi0rt health && pi0rt doctor'
